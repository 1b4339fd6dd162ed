"""Recipes: one TOML file is one table of a paper — a data set, the rows to train, what is expected, what the paper says.

A chain of two stages has ``[stages.NAME]`` tables, and rows that say ``candidates_from = "NAME"``: such a row is trained and
graded on the recipe's data with the candidates that the stage retrieves. A stage is no row, because it is graded by nothing,
learns from data of its own, which ends earlier, and is trained once a seed for all rows that name it. So a recipe reads in
the order of the chain: the data, who finds, who orders.

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

    [rows."oneranker, refreshed"]
    like = "oneranker"
    refresh = true                 # the same ranker, its fake items knowing what training never saw

    [stages.mf]                    # finds candidates in the whole catalogue for the rows that name it
    method = "matrix-factorization"
    candidates = 50
    [stages.mf.data.protocol_options]    # laid over [data]: the earlier part that it is trained on
    test_share = 0.5
    [rows."mf, then goalrank"]
    like = "goalrank"
    candidates_from = "mf"
    [rows."mf alone"]
    candidates_from = "mf"         # no method: the stage's own order

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

from slatewise.api import RETRIEVERS
from slatewise.config import Count, Frozen, build, merge, read_toml, to_plain
from slatewise.errors import ConfigError
from slatewise.evaluation.judge_training import JudgeConfig
from slatewise.evaluation.judging import own_best
from slatewise.evaluation.policies import NAMES as FLOORS_AND_CEILINGS
from slatewise.generators import oneranker
from slatewise.names import nearest, plugin, public_name
from slatewise.recipe_parts import Curve, DataSpec, Expected, Gap, Profile, Row, Stage


class Recipe(Frozen):
    """A whole recipe file."""

    title: str
    data: DataSpec
    rows: dict[str, Row]
    stages: dict[str, Stage] = {}
    seeds: tuple[int, ...] = (1, 2, 3)
    shared: dict[str, Any] = {}
    metrics: tuple[str, ...] = ()  # what the table shows; empty: what suits the data
    compare: tuple[str, ...] = ()  # metrics of the paired tests; empty: the first
    judges: dict[str, JudgeConfig] = {}  # who grades lists where nobody knows their true value
    limit: Count = 0  # evaluate so many test requests; 0: all
    expected: tuple[Expected, ...] = ()
    gaps: tuple[Gap, ...] = ()
    curves: tuple[Curve, ...] = ()
    profiles: tuple[Profile, ...] = ()
    paper: dict[str, dict[str, float]] = {}
    notes: str = ""

    def row(self, name: str) -> tuple[str, dict[str, Any]]:
        """Method and resolved options of a row, or of a stage; no method for a row that is a stage's own order.

        Raises:
            ConfigError: no such row, or its chain of ``like`` ends nowhere.
        """
        if name in self.stages:
            stage = self.stages[name]
            return stage.method, merge(self._shared_for(stage.method), stage.config)
        if name not in self.rows:
            names = [*self.rows, *self.stages]
            raise ConfigError(
                f"the recipe has no row '{name}'.{nearest(name, names)} Allowed: {', '.join(names)}."
            )
        row = self.rows[name]
        method, options = self.row(row.like) if row.like else (row.method, {})
        method = row.method or method
        if not method:
            return "", {}
        if not row.like:
            options = self._shared_for(method)
        return method, merge(options, row.config)

    def beside(self) -> list[str]:
        """Names that floors and ceilings can have: those of each stage's data stand apart."""
        own = list(FLOORS_AND_CEILINGS)
        return own + [of_stage(floor, stage) for stage in self.stages for floor in own]

    def stage_data(self, name: str) -> DataSpec:
        """The data that a stage is trained on."""
        return build(
            DataSpec, merge(to_plain(self.data), self.stages[name].data), where=f"stage '{name}', data"
        )

    def _shared_for(self, method: str) -> dict[str, Any]:
        """The shared settings that this method's Config has a place for."""
        fields = {field.name for field in msgspec.structs.fields(plugin("methods", method).Config)}
        offered = {**self.shared, "scorer": self.shared.get("scorers", {}).get(method)}
        return {key: value for key, value in offered.items() if key in fields and value is not None}


def of_stage(name: str, stage: str) -> str:
    """What a floor or ceiling among a stage's candidates is called."""
    return f"{name} ({stage})" if stage else name


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe, down to every row's options.

    Raises:
        ConfigError: a key, method, row or value that is not allowed, with the nearest name.
    """
    recipe = build(Recipe, read_toml(path), where=str(path))
    if not recipe.rows:
        raise ConfigError(f"{path} has no rows; it needs at least one [rows.NAME] with a method.")
    check_chain(recipe, path)
    for name in (*recipe.stages, *recipe.rows):
        method, options = recipe.row(name)
        if not method:
            continue
        config = build(plugin("methods", method).Config, options, where=f"{path}, row '{name}'")
        if name in recipe.rows and recipe.rows[name].refresh and not _has_clusters(config):
            raise ConfigError(
                f"{path}: row '{name}' is to be refreshed, but has no fake items; only oneranker with step 2 has."
            )
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
            allowed = [*recipe.rows, *recipe.beside(), *map(own_best, recipe.judges)]
            if row not in allowed:
                raise ConfigError(f"{path} names row '{row}', which it has not.{nearest(row, allowed)}")
    return recipe


def check_chain(recipe: Recipe, path: Path) -> None:
    """Refuse stages that nobody uses or that cannot retrieve, and rows that are nothing.

    Raises:
        ConfigError: with the row or stage.
    """
    stages = list(recipe.stages)
    for name, row in recipe.rows.items():
        if row.candidates_from and row.candidates_from not in stages:
            raise ConfigError(
                f"{path}: row '{name}' takes candidates from '{row.candidates_from}', which is no stage."
                f"{nearest(row.candidates_from, stages)} Stages: {', '.join(stages) or 'none'}."
            )
        if not (row.method or row.like or row.candidates_from):
            raise ConfigError(f"{path}: row '{name}' needs a method, or a row that it is like.")
    for name, stage in recipe.stages.items():
        if name in recipe.rows or name not in {row.candidates_from for row in recipe.rows.values()}:
            raise ConfigError(
                f"{path}: stage '{name}' needs a name that is no row's, and a row with candidates_from = \"{name}\"."
            )
        if stage.method not in RETRIEVERS:
            raise ConfigError(
                f"{path}: stage '{name}' cannot search a catalogue by method '{stage.method}'. Allowed: {', '.join(RETRIEVERS)}."
            )
        recipe.stage_data(name)
    if recipe.stages and recipe.judges:
        raise ConfigError(
            f"{path} has stages and judges; lists of several data sets are graded by a truth alone."
        )


def _has_clusters(config: object) -> bool:
    model = getattr(config, "model", None)
    return isinstance(model, oneranker.Architecture) and model.target_aware and model.target.fake_items > 0
