"""``slatewise evaluate``: rankers beside every floor and ceiling that their data allows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slatewise.data.prepared import PreparedData
    from slatewise.evaluation.judging import Bench
    from slatewise.evaluation.report import Section
    from slatewise.evaluation.results import Evaluation
    from slatewise.ranker import Ranker


def command(
    data: Annotated[Path, typer.Option(help="The prepared data that the runs were trained on.")],
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders; none: floors and ceilings only.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    metric: Annotated[
        list[str] | None, typer.Option(help="e.g. ndcg@6; repeat; default: the data's own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for report.html, .md, .json and values.arrow.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many requests, spread over the split.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Requests ranked at once.")] = 512,
    latency: Annotated[int, typer.Option(help="Requests timed one by one on one thread; 0: none.")] = 40,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="KIND-USERS such as gru-disjoint or pointwise-same, trained once into DATA/judges; or self, the reward "
            "of the first run that keeps one; repeat."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the rankers run, e.g. cpu or cuda.")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Grade runs on a split, beside floors (random, retriever …) and ceilings (oracle, optimum …), by judges too.

    Runs of one method and config are seeds of one row.
    """
    import msgspec

    from slatewise.cli._runs import Bar, open_all, print_section
    from slatewise.evaluation.judge_report import judges as judges_table
    from slatewise.evaluation.judging import OwnBest
    from slatewise.evaluation.offline import Config, evaluate
    from slatewise.evaluation.policies import floors_and_ceilings
    from slatewise.evaluation.truth import Truth

    prepared, rankers = open_all(data, runs or [], device)
    truth = Truth(prepared) if prepared.manifest.truth is not None else None
    config = Config(batch_size=batch_size, limit=limit, latency=latency)
    judges = [_bench(name, prepared, rankers) for name in judge or []]
    with Bar(quiet=json) as step:
        floors = floors_and_ceilings(prepared, split, truth=truth)
        policies: list[Any] = [*floors, *map(OwnBest, judges), *rankers]
        found = evaluate(
            policies,
            prepared,
            split,
            metrics=metric,
            config=config,
            truth=truth,
            judges=judges,
            progress=step,
        )
    worth = judges_table(judges, prepared, split)
    if out is not None:
        _report(out, found, prepared, rankers, runs or [], worth)
    if json:
        about = found.about
        facts: dict[str, Any] = {"data": about.data, "protocol": about.protocol, "split": split}
        facts["rows"] = found.table()
        if worth.rows:
            facts["judges"] = [dict(zip(worth.heads, row, strict=True)) for row in worth.rows]
        print(msgspec.json.encode(facts).decode())
    else:
        _print(found)
        if worth.rows:
            print_section(worth)
        if out is not None:
            print(f"report: {out / 'report.html'}")


def _bench(name: str, data: PreparedData, rankers: list[Ranker]) -> Bench:
    """The judge that the option ``--judge`` names."""
    from slatewise.errors import ConfigError
    from slatewise.evaluation.judge_training import SELF, JudgeConfig, fit_judge
    from slatewise.evaluation.judges import Self
    from slatewise.evaluation.judging import Bench
    from slatewise.training.run import Run

    length = data.schema.length
    if name == SELF:
        own = next((found for ranker in rankers if (found := Self.of(ranker.policy))), None)
        if own is None:
            raise ConfigError("judge 'self' needs a run that keeps its reward, such as one of reward-search.")
        return Bench(name, own, JudgeConfig(kind=SELF, row="first run"), length)
    kind, _, users = name.partition("-")
    if users not in ("same", "disjoint"):
        raise ConfigError(f"judge '{name}' is not KIND-same, KIND-disjoint or self; e.g. gru-disjoint.")
    config = JudgeConfig(kind=kind, users="same" if users == "same" else "disjoint")
    config.check(name)
    folder = data.path / "judges"
    return Bench(
        name, fit_judge(config, data, Run(folder, 0, folder, quiet=True)), config, data.schema.length
    )


def _report(
    out: Path,
    found: Evaluation,
    data: PreparedData,
    rankers: list[Ranker],
    runs: list[Path],
    worth: Section,
) -> None:
    from slatewise.evaluation.curves import read_curves
    from slatewise.evaluation.provenance import made_by
    from slatewise.evaluation.report import write_report

    seeds = ", ".join(f"{run.name} {ranker.card.seed}" for run, ranker in zip(runs, rankers, strict=True))
    about = found.about
    title = f"{about.data} under {about.protocol}: {len(found.request):,} {about.split} requests"
    curves = [read_curves(run) for run in runs]
    meta = made_by(
        data, seeds=seeds or "no runs", requests=f"{len(found.request):,}", target=data.manifest.target
    )
    sections = [worth] if worth.rows else []
    write_report(
        out,
        title=title,
        rows=found.table(),
        columns=about.metrics,
        curves=curves,
        meta=meta,
        sections=sections,
    )
    found.save(out / "values.arrow")


def _print(found: Evaluation) -> None:
    """The table on the terminal, cut into several where it is too wide."""
    from rich.console import Console
    from rich.table import Table

    from slatewise.evaluation.report import table
    from slatewise.evaluation.words import label

    about, console = found.about, Console()
    lines = table(found.table(), about.metrics)
    heads = [*map(label, about.metrics), "ms"]
    written = [
        [value + (f" ±{spread}" if spread else "") for value, spread, _ in line.cells] for line in lines
    ]
    widths = [
        max(len(row[place]) for row in [heads, *filter(None, written)]) + 3 for place in range(len(heads))
    ]
    first = max(len(line.head) for line in lines if line.cells) + 4
    for columns in _blocks(widths, console.width - first):
        shown = Table(title=f"{about.data}, {about.protocol}, {about.split}: {len(found.request):,} requests")
        shown.add_column("policy", no_wrap=True)
        for place in columns:
            shown.add_column(heads[place], justify="right", no_wrap=True)
        for line, cells in zip(lines, written, strict=True):
            if cells:
                style = "bold" if line.kind == "ranker" else "dim"
                shown.add_row(line.head, *[cells[place] for place in columns], style=style)
            else:
                shown.add_section()
        console.print(shown)


def _blocks(widths: list[int], room: int) -> list[list[int]]:
    """Columns in order, as many to a block as fit into ``room``, at least one."""
    blocks: list[list[int]] = [[]]
    for place, width in enumerate(widths):
        if blocks[-1] and sum(widths[p] for p in blocks[-1]) + width > room:
            blocks.append([])
        blocks[-1].append(place)
    return blocks
