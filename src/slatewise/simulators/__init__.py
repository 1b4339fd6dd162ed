"""Simulators: worlds that know the true value of any list. They share no code with any reward model."""

from __future__ import annotations

from typing import Any

from slatewise.config import build
from slatewise.errors import ConfigError
from slatewise.names import plugin
from slatewise.simulators.reference import shares
from slatewise.simulators.store_v1 import Store

__all__ = ["build_truth", "shares"]


def build_truth(truth: dict[str, Any]) -> Store:
    """The simulator that a prepared data set's manifest names.

    Args:
        truth: ``Manifest.truth``: ``simulator`` (its public name) and any options of its ``Config``.

    Raises:
        ConfigError: no ``simulator``, an unknown one, or an option it has not.
    """
    if "simulator" not in truth:
        raise ConfigError(f"the truth names no 'simulator'; it has: {', '.join(truth) or 'nothing'}.")
    module = plugin("simulators", str(truth["simulator"]))
    options = {name: value for name, value in truth.items() if name != "simulator"}
    store: Store = module.create(build(module.Config, options, where="truth"))
    return store
