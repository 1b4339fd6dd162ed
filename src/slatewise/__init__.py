"""Slatewise: from a log of shown lists to one model that writes the best ordered list.

``load_data``, ``fit``, ``Ranker`` and ``evaluate`` are the whole day's work; everything is imported when first used,
so that ``import slatewise`` stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from slatewise.api import evaluate, fit, load_data, prepare
    from slatewise.ranker import Ranker

__all__ = ["Ranker", "__version__", "evaluate", "fit", "load_data", "prepare"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'slatewise' has no attribute '{name}'")
    if name == "Ranker":
        from slatewise.ranker import Ranker

        return Ranker
    from slatewise import api

    return getattr(api, name)
