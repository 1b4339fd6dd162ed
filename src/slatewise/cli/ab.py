"""``slatewise ab``: what an A/B test in a log says, whenever and however often you look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import polars as pl

    from slatewise.evaluation.experiment import Verdict
    from slatewise.serving.simulate import Arm


def command(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="Requests in the log schema with the column arm; with --simulate a new Parquet file.",
        ),
    ],
    metric: Annotated[str, typer.Option(help="Feedback that counts, summed over the list.")] = "click",
    unit: Annotated[
        str, typer.Option(help="What was assigned to arms: user_id, request_id or a context_….")
    ] = "user_id",
    control: Annotated[
        str | None, typer.Option(help="The arm to compare with; default: the one with the most requests.")
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARM=SHARE", help="Planned share of the units; one for each arm. Default: equal."
        ),
    ] = None,
    planned: Annotated[
        int,
        typer.Option(help="Units planned for an arm and the control: where the sequential test is sharpest."),
    ] = 10_000,
    burn_in: Annotated[int, typer.Option(help="Units an arm needs before the first look.")] = 100,
    simulate: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="Make the log: an experiment in the simulated store that made this data."
        ),
    ] = None,
    ranker: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=RUN", help="With --simulate: a ranker, and an arm of its name."),
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=A:0.3,B:0.7", help="With --simulate: an arm whose requests meet several rankers."
        ),
    ] = None,
    requests: Annotated[int, typer.Option(min=100, help="With --simulate: how many.")] = 20_000,
    seed: Annotated[int, typer.Option(help="With --simulate: of users, requests and what they do.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="REPORT", help="Folder for a report.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Compare the arms of an experiment: means, differences, sample ratio, an always-valid test."""
    import msgspec

    from slatewise.data.check import normalise, read_requests
    from slatewise.errors import ConfigError
    from slatewise.evaluation.experiment import check_settings, judge, known, read_experiment
    from slatewise.evaluation.experiment_report import write
    from slatewise.evaluation.sequential import Config
    from slatewise.files import new_file

    config, shares, made = Config(planned=planned, burn_in=burn_in), _shares(share or []), None
    if simulate is not None:
        from slatewise.serving.simulate import KINDS

        rankers, arms = _arms(log, ranker or [], mix or [])
        known("metric", metric, list(KINDS))
        check_settings(sorted(arms), control, shares, config)
        made = _simulate(simulate, rankers, arms, requests, seed, unit)
    elif ranker or mix:
        raise ConfigError("--ranker and --mix are arms of a simulated experiment; give --simulate DATA, too.")
    table = read_requests(log) if made is None else normalise(made, source=str(log))
    verdict = judge(read_experiment(table, metric, unit), control=control, shares=shares, config=config)
    page = write(out, verdict, log) if out is not None else None
    if made is not None:  # last: whatever fails before, the same call can be made again
        with new_file(log) as partial:
            made.write_parquet(partial)
    if json:
        print(msgspec.json.encode(_facts(verdict)).decode())
        return
    _print(verdict)
    if page is not None:
        print(f"written: {page}")


def _arms(log: Path, rankers: list[str], mixes: list[str]) -> tuple[dict[str, str], dict[str, Arm]]:
    """The runs and arms of an experiment that is to be simulated into ``log``."""
    from slatewise.errors import ConfigError, DataError
    from slatewise.serving.simulate import Arm, read_mix

    if log.exists():
        raise DataError(f"{log} is there already; a simulated log needs a name of its own.")
    if log.suffix != ".parquet" or not log.parent.is_dir():
        raise ConfigError(f"{log} cannot hold a simulated log; name a .parquet file in a folder that exists.")
    named = dict(text.partition("=")[::2] for text in rankers)
    if not named or not all(named.values()):
        raise ConfigError("--simulate needs rankers: --ranker NAME=RUN, once for each.")
    arms = {name: Arm(name, {name: 1.0}) for name in named}
    arms |= {arm.name: arm for arm in map(read_mix, mixes)}
    if len(arms) < 2:
        raise ConfigError(
            f"an experiment needs two arms or more, got {', '.join(arms)}; name another ranker or a mix."
        )
    return named, arms


def _simulate(
    data: Path, rankers: dict[str, str], arms: dict[str, Arm], requests: int, seed: int, unit: str
) -> pl.DataFrame:
    from rich.console import Console

    from slatewise.api import load_data
    from slatewise.ranker import Ranker
    from slatewise.serving.simulate import simulate

    loaded = {name: Ranker.load(path) for name, path in rankers.items()}
    with Console(stderr=True).status("simulating …") as status:
        return simulate(
            load_data(data).manifest,
            loaded,
            arms,
            requests,
            seed,
            unit,
            lambda done, total: status.update(f"lists written: {done / total:.0%} …"),
        )


def _shares(settings: list[str]) -> dict[str, float]:
    from slatewise.errors import ConfigError

    shares = {}
    for setting in settings:
        name, equals, text = setting.rpartition("=")
        try:
            shares[name] = float(text)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"--share needs ARM=SHARE, such as goalrank=0.3, got '{setting}'.")
    return shares


def _facts(verdict: Verdict) -> dict[str, Any]:
    from slatewise.evaluation.experiment_report import notes

    return {
        "metric": verdict.experiment.metric,
        "unit": verdict.experiment.unit_name,
        "control": verdict.control,
        "rows": verdict.arms,
        "differences": verdict.differences,
        "sample_ratio": verdict.ratio,
        "sequential": verdict.sequential,
        "shared_units": verdict.shared_units,
        "left_out": verdict.experiment.left_out,
        "notes": list(notes(verdict)),
    }


def _print(verdict: Verdict) -> None:
    from rich.console import Console

    from slatewise.cli._runs import print_section
    from slatewise.evaluation.experiment_report import arms, differences, notes, sequential

    console = Console()
    for part in (arms(verdict), differences(verdict), sequential(verdict)):
        print_section(part)
    for note in notes(verdict):
        console.print(note, highlight=False, soft_wrap=True, markup=False)
