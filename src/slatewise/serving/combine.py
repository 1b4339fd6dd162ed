"""Several events of one kind on one item become one number: what the log schema has a place for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from slatewise.errors import ConfigError
from slatewise.names import nearest

Rule = Literal["max", "sum", "last"]
RULES: tuple[str, ...] = get_args(Rule)
USUAL: dict[str, Rule] = {"click": "max", "conversion": "max"}  # happened or not; amounts add up


def rule_of(kind: str, rules: Mapping[str, Rule]) -> Rule:
    """How events of a kind are combined: as said, else ``max`` for clicks and conversions, ``sum`` for all others."""
    return rules.get(kind, USUAL.get(kind, "sum"))


def read_rules(settings: Sequence[str]) -> dict[str, Rule]:
    """``["rating=last"]`` to a mapping.

    Raises:
        ConfigError: no ``=``, or another rule.
    """
    rules: dict[str, Rule] = {}
    for setting in settings:
        kind, equals, rule = setting.partition("=")
        if not equals or not kind or rule not in RULES:
            raise ConfigError(
                f"'{setting}' says not how a kind of feedback is combined.{nearest(rule, list(RULES))} "
                f"Write KIND=RULE; rules: {', '.join(RULES)}."
            )
        rules[kind] = rule  # type: ignore[assignment]
    return rules


def combined(
    place: NDArray[np.int64], value: NDArray[np.float64], size: int, rule: Rule
) -> NDArray[np.float64]:
    """(size,) one number a place, 0 where there is no event.

    Args:
        place, value: (m,) of each event, oldest first.
    """
    if rule == "max":
        out = np.full(size, -np.inf)
        np.maximum.at(out, place, value)
        return np.where(np.isfinite(out), out, 0.0)
    out = np.zeros(size)
    if rule == "sum":
        np.add.at(out, place, value)
    else:
        out[place] = value  # of repeated places the last counts
    return out
