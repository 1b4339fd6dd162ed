"""Slatewise: from a log of shown lists to one model that writes the best ordered list.

``load_data``, ``fit``, ``Ranker``, ``evaluate`` and ``export`` are the whole day's work; everything is imported when
first used, so that ``import slatewise`` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from slatewise.api import evaluate, fit, load_data, prepare
    from slatewise.export.write import export
    from slatewise.ranker import Ranker

__all__ = ["Ranker", "__version__", "evaluate", "export", "fit", "load_data", "prepare"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'slatewise' has no attribute '{name}'")
    if name == "Ranker":
        from slatewise.ranker import Ranker

        return Ranker
    if name == "export":  # the room itself, which can be called
        return importlib.import_module("slatewise.export")
    from slatewise import api

    return getattr(api, name)
