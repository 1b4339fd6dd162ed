"""Methods, one file each, named after their paper; each exports ``Config`` and ``fit(config, data, run) -> Ranker``."""

from __future__ import annotations

from typing import Any

from slatewise.config import build
from slatewise.data.prepared import PreparedData
from slatewise.names import plugin
from slatewise.ranker import Ranker
from slatewise.training.run import Run


def fit_method(name: str, options: dict[str, Any], data: PreparedData, run: Run) -> Ranker:
    """Train the method ``name`` with plain options; the ranker is returned, not saved.

    Raises:
        ConfigError: no such method, or an option it does not know.
    """
    module = plugin("methods", name)
    ranker: Ranker = module.fit(build(module.Config, options, where=f"method '{name}'"), data, run)
    return ranker
