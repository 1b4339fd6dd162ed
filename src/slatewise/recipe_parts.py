"""The tables that a recipe is made of (see :mod:`slatewise.recipe`)."""

from __future__ import annotations

from typing import Any

from slatewise.config import Frozen, Positive


class DataSpec(Frozen):
    """Which data, prepared how; ``target`` weighs the feedback kinds otherwise than the protocol."""

    dataset: str
    protocol: str = ""
    dataset_options: dict[str, Any] = {}
    protocol_options: dict[str, Any] = {}
    seed: int = 0
    target: dict[str, float] = {}


class Row(Frozen):
    """One line of the table: a method with its options; ``like`` names a row whose config it starts from.

    ``refresh``: OneRanker's fake items take in, after training, the items that training never saw. ``candidates_from``
    names the stage that retrieves the row's candidates; without a method the row is that stage's own order.
    """

    method: str = ""
    like: str = ""
    config: dict[str, Any] = {}
    refresh: bool = False
    candidates_from: str = ""


class Stage(Frozen):
    """A method that finds ``candidates`` in the whole catalogue for the rows that name it.

    ``data`` is laid over the recipe's own: the stage learns from an earlier part, since a request that it learnt from is
    none that a second stage may learn from.
    """

    method: str
    config: dict[str, Any] = {}
    data: dict[str, Any] = {}
    candidates: Positive = 50


class Expected(Frozen):
    """What a row's mean over seeds must reach; ``reproduce`` fails outside it."""

    row: str
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    above: str | None = None  # the name of another row that it must beat, significantly

    def holds(self, value: float) -> bool:
        """True inside the bounds."""
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )


class Gap(Frozen):
    """A difference between two rows worth a line of its own."""

    name: str
    better: str
    worse: str


class Curve(Frozen):
    """A plot over rows: ``metric`` against ``values``, one for each of ``rows``."""

    name: str
    axis: str
    rows: tuple[str, ...]
    values: tuple[float, ...]
    metric: str


class Profile(Frozen):
    """A plot over places: ``metric`` at each of ``places``, a line for each of ``rows``."""

    name: str
    rows: tuple[str, ...]
    places: tuple[int, ...]
    metric: str

    def metrics(self) -> tuple[str, ...]:
        """The metric at each place, which the recipe's ``metrics`` must have."""
        return tuple(f"{self.metric}@{place}" for place in self.places)
