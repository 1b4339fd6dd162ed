"""The report of a reproduced recipe: its table, significance, gaps, reward models, expectations, and how it was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.evaluation.curves import FILE, logged_lines, read_curves
from slatewise.evaluation.judge_report import judges
from slatewise.evaluation.plots import calibration_curves, profile, sweep
from slatewise.evaluation.provenance import made_by
from slatewise.evaluation.report import Section, write_report
from slatewise.evaluation.reward_quality import RewardQuality, reward_quality
from slatewise.evaluation.words import label, number, written
from slatewise.policies.pick import Pick
from slatewise.policies.search import Search
from slatewise.ranker import Ranker
from slatewise.rewards import RewardModel

if TYPE_CHECKING:
    from slatewise.reproduce import Result


def write(
    result: Result, recipe_path: Path, data: Mapping[str, PreparedData], runs: dict[str, Path], **made: object
) -> None:
    """Write ``report.md``, ``report.json`` and ``report.html`` into the result's folder.

    Args:
        data: each row's data; the first's says how the report came to be.
        runs: each trained row's run of the first seed; training curves and reward models are shown from these.
        made: more facts for the box that says how the report came to be.
    """
    recipe = result.recipe
    rewards = _reward_qualities(data, runs)
    first = next(iter(data.values()))
    sections = [
        judges(result.judges, first),
        _pairs(result),
        _gaps(result),
        _rewards(rewards),
        _semantic_ids(runs),
        _checks(result),
    ]
    pictures = [
        sweep(
            curve.name,
            curve.axis,
            curve.metric,
            curve.values,
            [result.row(row) for row in curve.rows],
            result.out / f"curve-{place + 1}.png",
        )
        for place, curve in enumerate(recipe.curves)
    ]
    pictures += [
        profile(
            one.name,
            one.metric,
            one.places,
            {row: [result.row(row).metrics[name] for name in one.metrics()] for row in one.rows},
            result.out / f"profile-{place + 1}.png",
        )
        for place, one in enumerate(recipe.profiles)
    ]
    write_report(
        result.out,
        title=recipe.title,
        rows=result.rows,
        columns=result.evaluation.about.metrics,
        curves=[read_curves(stages.parent, name=stages.parent.name) for stages in _stage_folders(runs)],
        meta=made_by(first, recipe=recipe_path, time=f"{result.seconds:.0f} s", **made),
        notes=[recipe.notes] if recipe.notes else [],
        sections=[section for section in sections if section.rows],
        pictures=[
            *pictures,
            calibration_curves({name: found.calibration for name, found in rewards.items()}),
        ],
    )


def _stage_folders(runs: dict[str, Path]) -> list[Path]:
    return sorted({run.parent / "stages" for run in runs.values()})


def _pairs(result: Result) -> Section:
    heads = ["against", "metric", "difference", "95 % interval", "p (paired t)", "p (Wilcoxon)", "p (sign)"]
    rows = [
        [
            pair.against,
            label(pair.metric),
            written(pair.metric, pair.comparison.difference),
            f"{written(pair.metric, pair.comparison.low)} to {written(pair.metric, pair.comparison.high)}",
            f"{pair.comparison.p_t:.2g}",
            f"{pair.comparison.p_wilcoxon:.2g}",
            f"{pair.comparison.p_sign:.2g}",
        ]
        for pair in result.pairs
    ]
    first = next(iter(result.recipe.rows))
    title = f"{first} against the other rows, paired by request, mean over seeds"
    return Section(f"{title} (for yes or no the sign test is McNemar's)" if rows else title, heads, rows)


def _gaps(result: Result) -> Section:
    rows = [
        [
            gap.name,
            gap.row,
            gap.against,
            label(gap.metric),
            written(gap.metric, gap.comparison.difference),
            f"{gap.comparison.p_t:.2g}",
            f"{gap.comparison.p_sign:.2g}",
        ]
        for gap in result.gaps
    ]
    heads = ["what", "from", "to", "metric", "difference", "p (paired t)", "p (sign)"]
    return Section("Where the rest is lost", heads, rows)


def _semantic_ids(runs: Mapping[str, Path]) -> Section:
    """Of every row that writes items as paths: how well the codes are used, and how many items had to share a path."""
    rows = []
    for row, run in runs.items():
        facts = next((line for line in logged_lines(run / FILE) if "collision_rate" in line), None)
        if facts is not None:
            use = " / ".join(f"{100 * facts[key]:.0f}" for key in facts if key.startswith("use_"))
            rows.append(
                [
                    row,
                    f"{facts['items']:,.0f}",
                    use,
                    f"{100 * facts['collision_rate']:.1f}",
                    f"{facts['error']:.3f}",
                ]
            )
    heads = ["row", "items", "codes in use, % a level", "collisions %", "error, of the variance"]
    return Section("Semantic ids of the first seed", heads, rows)


def _checks(result: Result) -> Section:
    return Section(
        "Expectations",
        ["expectation", "held"],
        [[c.sentence, "yes" if c.passed else "NO"] for c in result.checks],
    )


def _reward_qualities(data: Mapping[str, PreparedData], runs: dict[str, Path]) -> dict[str, RewardQuality]:
    """Quality of every reward model that a row carries with it (the rows that choose or search by one)."""
    found, seen = {}, set[str]()
    for row, run in runs.items():
        policy = Ranker.load(run).policy
        if not isinstance(policy, Pick | Search):
            continue
        weights = str(sum(float(p.detach().double().sum()) for p in policy.reward.parameters()))
        if weights not in seen:
            seen.add(weights)
            found[row] = reward_quality(value_of(policy.reward), data[row])
    return found


def _rewards(qualities: dict[str, RewardQuality]) -> Section:
    heads = [
        "reward model of",
        "R-AUC",
        "RMSE",
        "PCOC",
        "random lists by their labels: R-AUC / RMSE / PCOC",
        "random: Pearson / Spearman",
        "near optimum: Pearson / Spearman",
        "predicted / true on its own best",
    ]
    return Section(
        "Reward models (first seed)", heads, [[row, *_cells(found)] for row, found in qualities.items()]
    )


def value_of(reward: RewardModel) -> Callable[[ListBatch, Tensor], Tensor]:
    """The reward's value function without gradient, on its own device, lists in chunks that fit memory."""
    device = next(reward.parameters()).device

    @torch.no_grad()
    def value(batch: ListBatch, lists_BGL: Tensor) -> Tensor:
        memory = reward.encode(batch.to(device))
        return torch.cat([reward.value_of(memory, part.to(device)) for part in lists_BGL.split(50, dim=1)], 1)

    return value


def _cells(found: RewardQuality) -> list[str]:
    return [
        number(found.r_auc, 4),
        number(found.rmse),
        number(found.pcoc),
        " / ".join(map(number, (found.label_r_auc, found.label_rmse, found.label_pcoc))),
        f"{number(found.random_pearson)} / {number(found.random_spearman)}",
        f"{number(found.near_pearson)} / {number(found.near_spearman)}",
        number(found.own_best),
    ]
