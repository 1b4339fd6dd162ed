"""``slatewise reproduce``: from a recipe to its table, with floors, ceilings, significance, and the paper beside it.

Everything trained is kept under the output folder and found again by its config, so an interrupted run goes on where
it stopped, and rows that share a reward or a scorer train it once a seed.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from slatewise.api import prepare, train
from slatewise.config import Frozen, fingerprint
from slatewise.data.prepared import PreparedData, load_data
from slatewise.evaluation.compare import Comparison, clusters_of, paired
from slatewise.evaluation.entrants import Entrant
from slatewise.evaluation.offline import Config as EvaluationConfig
from slatewise.evaluation.offline import evaluate
from slatewise.evaluation.policies import floors_and_ceilings
from slatewise.evaluation.results import Evaluation, Row
from slatewise.ranker import Ranker
from slatewise.recipe import Expected, Recipe, read_recipe
from slatewise.reproduce_report import write
from slatewise.training.run import Run


class Check(Frozen):
    """An expectation and what came."""

    sentence: str
    passed: bool


class Pair(Frozen):
    """The recipe's first row against another, on the requests' means over seeds."""

    row: str
    metric: str
    comparison: Comparison


@dataclass(frozen=True)
class Result:
    """A finished recipe."""

    recipe: Recipe
    out: Path
    evaluation: Evaluation
    rows: list[Row]
    pairs: list[Pair]
    checks: list[Check]
    seconds: float

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
    prepared = data or _prepared(recipe, source, out)
    train_seeds(path, prepared, folder, chosen, jobs, quiet)
    opened = _open(recipe, prepared)
    evaluation = _evaluate(recipe, opened, folder, chosen)
    folder.mkdir(parents=True, exist_ok=True)
    evaluation.save(folder / "values.arrow")
    pairs = _pairs(recipe, evaluation)
    rows = evaluation.table()
    checks = [_check(entry, rows, evaluation) for entry in recipe.expected]
    result = Result(recipe, folder, evaluation, rows, pairs, checks, time.perf_counter() - started)
    runs = {row: run_folder(folder, chosen[0], row, *recipe.row(row)) for row in recipe.rows}
    write(result, path, opened, runs, seeds=", ".join(map(str, chosen)), jobs=jobs)
    return result


def _prepared(recipe: Recipe, source: Path | None, out: Path) -> Path:
    spec = recipe.data
    key = fingerprint(spec.dataset, spec.protocol, spec.dataset_options, spec.protocol_options, spec.seed)
    folder = out / "data" / f"{spec.dataset}-{spec.protocol or 'default'}-{key}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        prepare(
            spec.dataset,
            folder,
            source=source,
            protocol=spec.protocol or None,
            seed=spec.seed,
            dataset_options=spec.dataset_options,
            protocol_options=spec.protocol_options,
        )
    return folder


def _open(recipe: Recipe, path: Path) -> PreparedData:
    data = load_data(path)
    return data.with_target(recipe.data.target) if recipe.data.target else data


def train_seeds(recipe: Path, data: Path, out: Path, seeds: Sequence[int], jobs: int, quiet: bool) -> None:
    """Train every row for every seed; what is there already is not trained again."""
    threads = torch.get_num_threads()
    if jobs <= 1 or len(seeds) == 1:
        for seed in seeds:
            train_seed(recipe, data, out, seed, threads, quiet)
        return
    each = max(1, (os.cpu_count() or 1) // jobs)
    # spawned, not forked: a forked child inherits torch's thread pool in an unusable state
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(train_seed, recipe, data, out, seed, each, True) for seed in seeds]:
            future.result()


def train_seed(recipe_path: Path, data_path: Path, out: Path, seed: int, threads: int, quiet: bool) -> None:
    """Train every row of a recipe for one seed."""
    torch.set_num_threads(threads)
    recipe = read_recipe(recipe_path)
    data = _open(recipe, data_path)
    for row in recipe.rows:
        method, options = recipe.row(row)
        folder = run_folder(out, seed, row, method, options)
        train(method, options, data, Run(folder, seed, out / f"seed-{seed}" / "stages", quiet=quiet))


def run_folder(out: Path, seed: int, row: str, method: str, options: dict[str, Any]) -> Path:
    """Where a row's run of a seed lives; another config is another folder."""
    slug = "".join(c if c.isalnum() else "-" for c in row.lower()).strip("-")
    return out / f"seed-{seed}" / f"{slug}-{fingerprint(method, options)[:6]}"


def _evaluate(recipe: Recipe, data: PreparedData, out: Path, seeds: Sequence[int]) -> Evaluation:
    entrants: list[Any] = list(floors_and_ceilings(data))
    for row in recipe.rows:
        method, options = recipe.row(row)
        for seed in seeds:
            ranker = Ranker.load(run_folder(out, seed, row, method, options))
            name = row if len(seeds) == 1 else f"{row} seed {seed}"
            entrants.append(Entrant(name, ranker.rank_batch, row, paper=recipe.paper.get(row)))
    threads = torch.get_num_threads()
    try:
        return evaluate(
            entrants,
            data,
            metrics=recipe.metrics or None,
            config=EvaluationConfig(limit=recipe.limit or None),
        )
    finally:
        torch.set_num_threads(threads)


def row_values(evaluation: Evaluation, row: str, metric: str) -> Any:
    """A row's value a request, averaged over its seeds."""
    members = [p.name for p in evaluation.about.policies if p.group == row]
    return sum(evaluation.value(name, metric) for name in members) / len(members)


def _pairs(recipe: Recipe, evaluation: Evaluation) -> list[Pair]:
    first = next(iter(recipe.rows))
    metrics = recipe.compare or evaluation.about.metrics[:1]
    clusters = clusters_of(evaluation.user)
    others = [row for row in recipe.rows if row != first]
    return [
        Pair(
            row=row,
            metric=metric,
            comparison=paired(
                row_values(evaluation, first, metric), row_values(evaluation, row, metric), clusters=clusters
            ),
        )
        for metric in metrics
        for row in others
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
