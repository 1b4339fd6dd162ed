"""``slatewise compare``: is one run better than another, on the same requests?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slatewise.data.prepared import PreparedData
    from slatewise.evaluation.compare import Comparison
    from slatewise.evaluation.entrants import Entrant


def command(
    first: Annotated[str, typer.Argument(help="A run folder, or a floor such as retriever.")],
    second: Annotated[str, typer.Argument(help="What it is compared with: a run folder or a floor.")],
    data: Annotated[Path, typer.Option(help="The prepared data that the runs were trained on.")],
    metric: Annotated[str, typer.Option(help="e.g. ndcg@6, auc, true-value.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    limit: Annotated[
        int | None, typer.Option(help="At most so many requests, spread over the split.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Compare two rankers request by request: difference, 95 % interval, paired tests."""
    import msgspec

    from slatewise.cli._runs import Bar, open_all
    from slatewise.errors import ConfigError
    from slatewise.evaluation.compare import compare
    from slatewise.evaluation.offline import Config, evaluate

    if first == second:
        raise ConfigError(f"'{first}' is compared with itself; name two different runs or floors.")
    runs = [Path(name) for name in (first, second) if Path(name).exists()]
    prepared, rankers = open_all(data, runs)
    by_path = dict(zip(map(str, runs), rankers, strict=True))
    pair = [_entrant(name, by_path.get(str(Path(name))), prepared, split) for name in (first, second)]
    with Bar(quiet=json) as step:
        config = Config(limit=limit, latency=0)
        found = evaluate(pair, prepared, split, metrics=[metric], config=config, progress=step)
    name = found.about.metrics[0]
    result = compare(found, first, second, name, seed=seed)
    if json:
        rows = [
            {"policy": first, "metrics": {name: result.mean_a}},
            {"policy": second, "metrics": {name: result.mean_b}},
        ]
        print(
            msgspec.json.encode({"metric": name, "split": split, "rows": rows, "comparison": result}).decode()
        )
    else:
        _print(first, second, name, result)


def _entrant(name: str, ranker: object, data: PreparedData, split: str) -> Entrant:
    from slatewise.errors import ConfigError
    from slatewise.evaluation.entrants import Entrant
    from slatewise.evaluation.policies import floors_and_ceilings
    from slatewise.names import nearest

    if ranker is not None:
        return Entrant(name, ranker.rank_batch, name)  # type: ignore[attr-defined]
    floors = {policy.name: policy for policy in floors_and_ceilings(data, split)}
    if name not in floors:
        allowed = list(floors)
        hint = f"{nearest(name, allowed)} Floors here: {', '.join(allowed)}."
        raise ConfigError(f"'{name}' is no run folder and no floor.{hint}")
    return Entrant(name, floors[name].rank, name, getattr(floors[name], "kind", "floor"))


def _print(first: str, second: str, metric: str, result: Comparison) -> None:
    from slatewise.evaluation.words import written

    def show(value: float) -> str:
        return written(metric, value)

    print(f"{metric}: {first} {show(result.mean_a)}, {second} {show(result.mean_b)}")
    print(f"difference {show(result.difference)}, 95 % interval {show(result.low)} to {show(result.high)}")
    counts = f"better on {result.wins:,}, equal on {result.ties:,}, worse on {result.losses:,}"
    print(f"{counts} of {result.requests:,} requests")
    chances = f"paired t-test p = {result.p_t:.2g}, Wilcoxon p = {result.p_wilcoxon:.2g}"
    sign = f"sign test (McNemar's for yes or no) p = {result.p_sign:.2g}"
    print(f"{chances} ({result.units:,} users), {sign} ({result.requests:,} requests)")
