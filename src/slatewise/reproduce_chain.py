"""Grading a chain: the same requests on several data sets, one a first stage and seed, put together in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from slatewise.data.prepared import PreparedData
from slatewise.evaluation.entrants import Entrant
from slatewise.evaluation.offline import Config, evaluate
from slatewise.evaluation.policies import floors_and_ceilings
from slatewise.evaluation.results import Evaluation, joined
from slatewise.evaluation.truth import Truth
from slatewise.ranker import Ranker
from slatewise.recipe import Recipe, of_stage
from slatewise.reproduce_data import Shared, data_of, row_folder, same_requests

STAGE = "retriever"  # the floor that is a first stage's own order


def evaluate_chain(recipe: Recipe, shared: Shared, out: Path, seeds: Sequence[int]) -> Evaluation:
    """Every row on its own data, all data on the same requests.

    Raises:
        DataError: the data sets' requests to test on are not the same.
    """
    stages = list(dict.fromkeys(row.candidates_from for row in recipe.rows.values()))
    parts = {
        (stage, seed): data_of(recipe, stage, shared, out, seed)
        for stage in stages
        for seed in (seeds if stage else seeds[:1])
    }
    same_requests(list(parts.values()))
    evaluations = []
    for (stage, seed), data in parts.items():
        truth = Truth(data, shared=out) if data.manifest.truth is not None else None
        field = _field(recipe, stage, data, out, [seed] if stage else seeds, seeds, truth)
        config = Config(limit=recipe.limit or None)
        evaluations.append(
            evaluate(list(field), data, metrics=recipe.metrics or None, config=config, truth=truth)
        )
    return joined(evaluations)


def _field(
    recipe: Recipe,
    stage: str,
    data: PreparedData,
    out: Path,
    here: Sequence[int],
    seeds: Sequence[int],
    truth: Truth | None,
) -> Iterator[Entrant]:
    """Floors and ceilings among a stage's candidates, then the rows that take theirs from it."""
    beside = floors_and_ceilings(data, truth=truth, exact=not stage)
    for policy in beside:
        if not (stage and STAGE in policy.name):
            group = of_stage(policy.name, stage)
            name = seed_name(group, here[0], seeds) if stage else group
            yield Entrant(name, policy.rank, group, getattr(policy, "kind", "floor"))
    for row, table in recipe.rows.items():
        for seed in here if table.candidates_from == stage else ():
            name = seed_name(row, seed, seeds)
            if recipe.row(row)[0]:
                yield entrant(recipe, row, name, Ranker.load(row_folder(recipe, row, data, out, seed)))
            else:
                own = next(policy for policy in beside if policy.name == STAGE)
                yield Entrant(name, own.rank, row, paper=recipe.paper.get(row))


def entrant(recipe: Recipe, row: str, name: str, ranker: Ranker) -> Entrant:
    """A row's ranker as the evaluation sees it."""
    return Entrant(
        name,
        ranker.rank_batch,
        row,
        paper=recipe.paper.get(row),
        retrieve=ranker.retriever,
        steps=ranker.steps,
    )


def seed_name(row: str, seed: int, seeds: Sequence[int]) -> str:
    """What a row's run of a seed is called: unique in an evaluation."""
    return row if len(seeds) == 1 else f"{row} seed {seed}"
