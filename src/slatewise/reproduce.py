"""``slatewise reproduce``: from a recipe to its table, with floors, ceilings, significance, and the paper beside it.

Everything trained is kept under the output folder and found again by its config, so an interrupted run goes on where
it stopped, and rows that share a reward or a scorer train it once a seed.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from slatewise.api import train
from slatewise.config import Frozen
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError
from slatewise.evaluation.compare import Comparison, clusters_of, paired
from slatewise.evaluation.judge_training import SELF, fit_judge
from slatewise.evaluation.judges import Judge, Self
from slatewise.evaluation.judging import Bench, OwnBest
from slatewise.evaluation.offline import Config as EvaluationConfig
from slatewise.evaluation.offline import evaluate
from slatewise.evaluation.policies import floors_and_ceilings
from slatewise.evaluation.results import Evaluation, Row
from slatewise.ranker import Ranker
from slatewise.recipe import Recipe, read_recipe
from slatewise.recipe_parts import Expected
from slatewise.reproduce_chain import entrant, evaluate_chain, seed_name
from slatewise.reproduce_data import Shared, data_of, prepare_shared, row_folder
from slatewise.reproduce_report import write
from slatewise.training.run import Run


class Check(Frozen):
    """An expectation and what came."""

    sentence: str
    passed: bool


class Pair(Frozen):
    """A row against another, on the requests' means over seeds; ``name`` says what their difference means."""

    row: str
    against: str
    metric: str
    comparison: Comparison
    name: str = ""


@dataclass(frozen=True)
class Result:
    """A finished recipe; ``runs`` and ``data`` are the rows' run folders and prepared data of the first seed."""

    recipe: Recipe
    out: Path
    evaluation: Evaluation
    judges: list[Bench]
    rows: list[Row]
    pairs: list[Pair]
    gaps: list[Pair]
    checks: list[Check]
    seconds: float
    runs: dict[str, Path]
    data: dict[str, Path]

    def row(self, name: str) -> Row:
        """The table's row of that name."""
        return next(row for row in self.rows if row.policy == name)

    def mean(self, row: str, metric: str) -> float:
        """A row's mean over seeds and requests."""
        return self.row(row).metrics[metric]

    def json_rows(self) -> list[dict[str, Any]]:
        """One object a policy: ``policy, metrics, std, seeds, paper``."""
        return [msgspec.to_builtins(row) for row in self.rows]

    def markdown(self) -> str:
        """The report's text."""
        return (self.out / "report.md").read_text()


def reproduce(
    path: Path,
    *,
    source: Path | None = None,
    data: Path | None = None,
    out: Path = Path("runs/reproduce"),
    seeds: int = 0,
    jobs: int = 1,
    quiet: bool = False,
) -> Result:
    """Run a recipe whole.

    Args:
        source: the data set's official files.   data: prepared data to use instead of preparing it here.
        out: results go to ``out/<recipe's stem>``.   seeds: only so many of the recipe's seeds (0: all).
        jobs: processes; each trains one seed on its share of the CPU threads.

    Raises:
        ConfigError, DataError, RunError, TrainingError: as their sentences say.
    """
    started = time.perf_counter()
    recipe = read_recipe(path)
    chosen = recipe.seeds[:seeds] if seeds else recipe.seeds
    folder = out / path.stem
    shared = prepare_shared(recipe, source, data, out)
    train_seeds(path, shared, folder, chosen, jobs, quiet)
    evaluation, judges = _evaluate(recipe, shared, folder, chosen)
    folder.mkdir(parents=True, exist_ok=True)
    evaluation.save(folder / "values.arrow")
    first, *others = recipe.rows
    pairs = _pairs(recipe, evaluation, [("", first, row) for row in others])
    gaps = _pairs(recipe, evaluation, [(gap.name, gap.better, gap.worse) for gap in recipe.gaps])
    rows = evaluation.table()
    checks = [_check(entry, rows, evaluation) for entry in recipe.expected]
    opened = {
        row: data_of(recipe, table.candidates_from, shared, folder, chosen[0])
        for row, table in recipe.rows.items()
    }
    runs = {
        row: row_folder(recipe, row, opened[row], folder, chosen[0])
        for row in recipe.rows
        if recipe.row(row)[0]
    }
    places = {row: prepared.path for row, prepared in opened.items()}
    seconds = time.perf_counter() - started
    result = Result(recipe, folder, evaluation, judges, rows, pairs, gaps, checks, seconds, runs, places)
    write(result, path, opened, runs, seeds=", ".join(map(str, chosen)), jobs=jobs)
    return result


def train_seeds(
    recipe: Path, shared: Shared, out: Path, seeds: Sequence[int], jobs: int, quiet: bool
) -> None:
    """Train every row for every seed; what is there already is not trained again."""
    threads = torch.get_num_threads()
    if jobs <= 1 or len(seeds) == 1:
        for seed in seeds:
            train_seed(recipe, shared, out, seed, threads, quiet)
        return
    each = max(1, (os.cpu_count() or 1) // jobs)
    # spawned, not forked: a forked child inherits torch's thread pool in an unusable state
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(train_seed, recipe, shared, out, seed, each, True) for seed in seeds]:
            future.result()


def train_seed(path: Path, shared: Shared, out: Path, seed: int, threads: int, quiet: bool) -> None:
    """Train every row of a recipe for one seed, and before them the stages that their candidates come from."""
    torch.set_num_threads(threads)
    recipe = read_recipe(path)
    for row, table in recipe.rows.items():
        data = data_of(recipe, table.candidates_from, shared, out, seed, quiet=quiet)
        method, options = recipe.row(row)
        if method:
            run = Run(
                row_folder(recipe, row, data, out, seed), seed, out / f"seed-{seed}" / "stages", quiet=quiet
            )
            train(method, options, data, run, refresh=table.refresh)


def _evaluate(
    recipe: Recipe, shared: Shared, out: Path, seeds: Sequence[int]
) -> tuple[Evaluation, list[Bench]]:
    threads = torch.get_num_threads()
    try:
        if recipe.stages:
            return evaluate_chain(recipe, shared, out, seeds), []
        return _evaluate_rows(recipe, data_of(recipe, "", shared, out, seeds[0]), out, seeds)
    finally:
        torch.set_num_threads(threads)


def _evaluate_rows(
    recipe: Recipe, data: PreparedData, out: Path, seeds: Sequence[int]
) -> tuple[Evaluation, list[Bench]]:
    """All rows and seeds on one data set."""
    rankers = {
        (row, seed): Ranker.load(row_folder(recipe, row, data, out, seed))
        for row in recipe.rows
        for seed in seeds
    }
    named = {(row, seed): seed_name(row, seed, seeds) for row, seed in rankers}
    judges = list(_benches(recipe, data, out, rankers, named))
    entrants: list[Any] = [*floors_and_ceilings(data), *map(OwnBest, judges)]
    entrants += [entrant(recipe, row, named[row, seed], ranker) for (row, seed), ranker in rankers.items()]
    evaluation = evaluate(
        entrants,
        data,
        metrics=recipe.metrics or None,
        config=EvaluationConfig(limit=recipe.limit or None),
        judges=judges,
    )
    return evaluation, judges


def _benches(
    recipe: Recipe,
    data: PreparedData,
    out: Path,
    rankers: dict[tuple[str, int], Ranker],
    named: dict[tuple[str, int], str],
) -> Iterator[Bench]:
    """The recipe's judges, trained once for all rows and seeds; ``self`` is of each seed its own evaluator."""
    run = Run(out / "judges", 0, out / "judges", quiet=True)
    for name, config in recipe.judges.items():
        if config.kind == SELF:
            own = {seed: _evaluator(row, rankers[row, seed]) for row, seed in rankers if row == config.row}
            of_policy: dict[str, Judge] = {named[row, seed]: own[seed] for row, seed in rankers}
            yield Bench(name, next(iter(own.values())), config, data.schema.length, of_policy)
        else:
            yield Bench(name, fit_judge(config, data, run), config, data.schema.length)


def _evaluator(row: str, ranker: Ranker) -> Self:
    found = Self.of(ranker.policy)
    if found is None:
        raise ConfigError(
            f"row '{row}' keeps no reward that could be a judge; name one of method reward-search or "
            "generator-evaluator."
        )
    return found


def row_values(evaluation: Evaluation, row: str, metric: str) -> Any:
    """A row's value a request, averaged over its seeds."""
    members = [p.name for p in evaluation.about.policies if p.group == row]
    return sum(evaluation.value(name, metric) for name in members) / len(members)


def _pairs(recipe: Recipe, evaluation: Evaluation, asked: Sequence[tuple[str, str, str]]) -> list[Pair]:
    """The asked differences (name, row, against), for each metric of the recipe's ``compare``."""
    clusters = clusters_of(evaluation.user)
    return [
        Pair(
            row=row,
            against=against,
            metric=metric,
            name=name,
            comparison=paired(
                row_values(evaluation, row, metric),
                row_values(evaluation, against, metric),
                clusters=clusters,
            ),
        )
        for metric in recipe.compare or evaluation.about.metrics[:1]
        for name, row, against in asked
    ]


def _check(entry: Expected, rows: list[Row], evaluation: Evaluation) -> Check:
    value = next(row for row in rows if row.policy == entry.row).metrics[entry.metric]
    parts, passed = [], entry.holds(value)
    if entry.at_least is not None:
        parts.append(f"at least {entry.at_least:.4g}")
    if entry.at_most is not None:
        parts.append(f"at most {entry.at_most:.4g}")
    if entry.above is not None:
        a, b = (row_values(evaluation, name, entry.metric) for name in (entry.row, entry.above))
        found = paired(a, b, clusters=clusters_of(evaluation.user))
        parts.append(f"above {entry.above} ({found.mean_b:.4g}; p = {found.p_t:.2g})")
        passed = passed and found.difference > 0 and found.p_t < 0.05
    return Check(
        sentence=f"{entry.row}: {entry.metric} {value:.4f}, expected {' and '.join(parts)}", passed=passed
    )
