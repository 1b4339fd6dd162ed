"""Public laws: run one over a plug-in of yours and it says in a sentence which law the plug-in breaks.

::

    from slatewise.testing import check_decoder

    def test_my_decoder():
        check_decoder("my-decoder", steps=3)

Every check takes the plug-in's public name or its module, and the plug-in's options as keywords; it builds
the data it needs by itself (a tiny simulated store). It returns nothing and raises :class:`LawBroken`, which
is an AssertionError. ``tests/contracts`` runs the checks over every plug-in of the library.
"""

from __future__ import annotations

from slatewise.testing.backend import check_backend
from slatewise.testing.dataset import check_dataset
from slatewise.testing.decoder import check_decoder
from slatewise.testing.group import check_group
from slatewise.testing.laws import LawBroken
from slatewise.testing.method import check_method
from slatewise.testing.metric import check_metric
from slatewise.testing.protocol import check_protocol
from slatewise.testing.reward import check_reward

__all__ = [
    "LawBroken",
    "check_backend",
    "check_dataset",
    "check_decoder",
    "check_group",
    "check_method",
    "check_metric",
    "check_protocol",
    "check_reward",
]
