"""Recipes: one TOML file is one table of a paper — a data set, the rows to train, what is expected, what the paper says.

::

    title = "GoalRank on the simulated store"
    seeds = [1, 2, 3]

    [data]
    dataset = "store"
    [data.dataset_options]
    requests = 160000

    [shared.reward]                # laid under every row whose method has a reward
    [shared.scorers.dnn]           # under the scorer of that name, wherever a method has it
    [shared.sequence]              # any other table: under every row whose method has a field of that name

    [rows.goalrank]                # the first row is what `slatewise train` trains
    method = "goalrank"
    [rows.goalrank.config]
    [rows."goalrank, paper"]
    like = "goalrank"              # starts from that row's config
    [rows."goalrank, paper".config.reference]
    temperature = 1.0

    [judges.gru-disjoint]          # grades every row; its metrics are "hr@1%[gru-disjoint]" …
    kind = "gru"
    users = "disjoint"

    [[expected]]
    row = "goalrank"
    metric = "oracle_share"
    at_least = 0.95

    [[gaps]]                       # differences to be printed, e.g. where the optimum is lost
    name = "distillation"
    better = "reward search"
    worse = "goalrank"

    [paper.GoalRank]               # the paper's own numbers, printed beside ours
    "precision@6" = 0.7356
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from slatewise.config import Frozen, build, merge, read_toml
from slatewise.errors import ConfigError
from slatewise.evaluation.judge_training import JudgeConfig
from slatewise.evaluation.judging import own_best
from slatewise.evaluation.policies import NAMES as FLOORS_AND_CEILINGS
from slatewise.names import nearest, plugin, public_name


class DataSpec(Frozen):
    """Which data, prepared how; ``target`` weighs the feedback kinds otherwise than the protocol."""

    dataset: str
    protocol: str = ""
    dataset_options: dict[str, Any] = {}
    protocol_options: dict[str, Any] = {}
    seed: int = 0
    target: dict[str, float] = {}


class Row(Frozen):
    """One line of the table: a method with its options; ``like`` names a row whose config it starts from."""

    method: str = ""
    like: str = ""
    config: dict[str, Any] = {}


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


class Recipe(Frozen):
    """A whole recipe file."""

    title: str
    data: DataSpec
    rows: dict[str, Row]
    seeds: tuple[int, ...] = (1, 2, 3)
    shared: dict[str, Any] = {}
    metrics: tuple[str, ...] = ()  # what the table shows; empty: what suits the data
    compare: tuple[str, ...] = ()  # metrics of the paired tests; empty: the first
    judges: dict[str, JudgeConfig] = {}  # who grades lists where nobody knows their true value
    limit: int = 0  # evaluate so many test requests; 0: all
    expected: tuple[Expected, ...] = ()
    gaps: tuple[Gap, ...] = ()
    curves: tuple[Curve, ...] = ()
    profiles: tuple[Profile, ...] = ()
    paper: dict[str, dict[str, float]] = {}
    notes: str = ""

    def row(self, name: str) -> tuple[str, dict[str, Any]]:
        """Method and resolved options of a row.

        Raises:
            ConfigError: no such row, or its chain of ``like`` ends nowhere.
        """
        if name not in self.rows:
            names = list(self.rows)
            raise ConfigError(
                f"the recipe has no row '{name}'.{nearest(name, names)} Allowed: {', '.join(names)}."
            )
        row = self.rows[name]
        method, options = self.row(row.like) if row.like else (row.method, {})
        method = row.method or method
        if not row.like:
            options = self._shared_for(method)
        return method, merge(options, row.config)

    def _shared_for(self, method: str) -> dict[str, Any]:
        """The shared settings that this method's Config has a place for."""
        fields = {field.name for field in msgspec.structs.fields(plugin("methods", method).Config)}
        offered = {**self.shared, "scorer": self.shared.get("scorers", {}).get(method)}
        return {key: value for key, value in offered.items() if key in fields and value is not None}


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe, down to every row's options.

    Raises:
        ConfigError: a key, method, row or value that is not allowed, with the nearest name.
    """
    recipe = build(Recipe, read_toml(path), where=str(path))
    if not recipe.rows:
        raise ConfigError(f"{path} has no rows; it needs at least one [rows.NAME] with a method.")
    for name in recipe.rows:
        method, options = recipe.row(name)
        build(plugin("methods", method).Config, options, where=f"{path}, row '{name}'")
    for name, judge in recipe.judges.items():
        judge.check(name)
        if name != public_name(name) or "]" in name:
            raise ConfigError(f"{path}: judge '{name}' needs a name without _ and ], such as gru-disjoint.")
    named: list[tuple[str, ...]] = [(judge.row,) for judge in recipe.judges.values() if judge.row]
    named += [(e.row, *([e.above] if e.above else [])) for e in recipe.expected]
    named += [(gap.better, gap.worse) for gap in recipe.gaps]
    named += [curve.rows for curve in recipe.curves] + [profile.rows for profile in recipe.profiles]
    for profile in recipe.profiles:
        if missing := [name for name in profile.metrics() if name not in recipe.metrics]:
            raise ConfigError(
                f"{path}: profile '{profile.name}' needs {missing[0]} among the recipe's metrics."
            )
    for rows in named:
        for row in rows:
            allowed = [*recipe.rows, *FLOORS_AND_CEILINGS, *map(own_best, recipe.judges)]
            if row not in allowed:
                raise ConfigError(f"{path} names row '{row}', which it has not.{nearest(row, allowed)}")
    return recipe
