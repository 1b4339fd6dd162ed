"""Which columns an exported log has, and of which types: one pass over what is to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from slatewise.serving.records import Exposure, Scalar


@dataclass
class Shape:
    """What the exposures seen so far have.

    Attributes:
        requests: how many.   scored: how many with scores.
        types: of users, items and each context, by name of the column.
        features: names of the candidates' features, in the order in which they came.
        present: optional columns that any exposure fills.
        by_arm: exposures of each arm, with scores (True) and without.
    """

    requests: int = 0
    scored: int = 0
    types: dict[str, set[type]] = field(default_factory=dict)
    features: dict[str, None] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    by_arm: dict[tuple[str, bool], int] = field(default_factory=dict)

    @property
    def written(self) -> int:
        """Those that can be written: where some have scores, those that have."""
        return self.scored or self.requests

    @property
    def arms(self) -> dict[str, int]:
        """How many of each arm can be written."""
        names = sorted({name for name, _ in self.by_arm})
        without = 0 if self.scored else 1
        return {n: self.by_arm.get((n, True), 0) + without * self.by_arm.get((n, False), 0) for n in names}

    def see(self, exposures: Sequence[Exposure]) -> None:
        """Take in more exposures."""
        for one in exposures:
            self.requests += 1
            self.scored += one.scores is not None
            self._type("user_id", one.user_id)
            self.types.setdefault("candidates", set()).update(map(type, one.candidates))
            for name, value in one.context.items():
                self._type(f"context_{name}", value)
            self.features.update(dict.fromkeys(one.features))
            self.present.update(
                n for n in ("propensity", "arm", "model_version") if getattr(one, n) is not None
            )
            if one.arm is not None:
                key = one.arm, one.scores is not None
                self.by_arm[key] = self.by_arm.get(key, 0) + 1

    def columns(self, kinds: Sequence[str]) -> dict[str, pl.DataType]:
        """Every column with its type, in the order of the log schema."""
        item, numbers = _type_of(self.types["candidates"]), pl.List(pl.Float64())
        optional = {"propensity": pl.Float64(), "arm": pl.String(), "model_version": pl.String()}
        contexts = [name for name in self.types if name.startswith("context_")]
        return {
            "request_id": pl.String(),
            "user_id": _type_of(self.types["user_id"]),
            "timestamp": pl.Datetime("us", "UTC"),
            "candidates": pl.List(item),
            **({"candidate_scores": numbers} if self.scored else {}),
            "exposed": pl.List(item),
            **{f"feedback_{kind}": numbers for kind in kinds},
            **{name: kind for name, kind in optional.items() if name in self.present},
            **{name: _type_of(self.types[name]) for name in contexts},
            **{f"candidate_{name}": numbers for name in self.features},
        }

    def _type(self, name: str, value: Scalar) -> None:
        known = self.types.setdefault(name, set())
        if value is not None:
            known.add(type(value))


def _type_of(types: set[type]) -> pl.DataType:
    """The narrowest type that holds them all; strings hold everything."""
    if types == {bool}:
        return pl.Boolean()
    if types == {int}:
        return pl.Int64()
    return pl.Float64() if types and types <= {int, float} else pl.String()
