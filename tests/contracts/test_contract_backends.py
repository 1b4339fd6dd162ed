"""Every backend of the library is under the public laws, on an exported ranker with random weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slatewise.export.backends import eager
from slatewise.names import available
from slatewise.testing import LawBroken, check_backend

SLOW = {"aot-inductor"}  # a compiler takes a minute


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in available("export.backends")],
)
def test_keeps_the_laws(name: str) -> None:
    check_backend(name)


def test_the_laws_can_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def drifting(self, feed):
        served = plain(self, feed)
        return replace(served, score_BN=served.score_BN + len(feed["mask_BN"]))

    plain = eager.Eager.rank
    monkeypatch.setattr(eager.Eager, "rank", drifting)
    with pytest.raises(
        LawBroken, match="eager: ranks otherwise than the ranker: request 0 example gets its list"
    ):
        check_backend("eager")
