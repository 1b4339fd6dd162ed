"""``slatewise train``: train the first row of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (recipes/METHOD/DATASET.toml).")],
    data: Annotated[Path, typer.Option(help="Prepared data (see `slatewise prepare`).")],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    row: Annotated[
        str | None, typer.Option(help="Which row (or stage) of the recipe; default: the first.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the recipe's config.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Default: the recipe's first seed.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")] = False,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as many as torch takes.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Train one row of a recipe; interrupt it as you like and go on with --resume."""
    import msgspec
    import torch

    from slatewise.api import train
    from slatewise.config import build, merge, parse_overrides
    from slatewise.data.prepared import load_data
    from slatewise.errors import ConfigError
    from slatewise.names import plugin
    from slatewise.recipe import read_recipe
    from slatewise.training.run import open_run

    plan = read_recipe(recipe)
    name = row or next(iter(plan.rows))
    method, options = plan.row(name)
    if not method:
        raise ConfigError(
            f"row '{name}' trains nothing: it is the order of stage '{plan.rows[name].candidates_from}'."
        )
    options = merge(options, parse_overrides(set_ or []))
    build(plugin("methods", method).Config, options, where=f"method '{method}'")
    if threads:
        torch.set_num_threads(threads)
    prepared = load_data(data)
    if plan.data.target:
        prepared = prepared.with_target(plan.data.target)
    run = open_run(out, seed=plan.seeds[0] if seed is None else seed, resume=resume, quiet=json)
    refresh = name in plan.rows and plan.rows[name].refresh
    ranker = train(method, options, prepared, run, refresh=refresh)
    parameters = sum(p.numel() for p in ranker.policy.parameters())
    facts = {"method": method, "run": str(out), "seed": run.seed, "parameters": parameters}
    print(
        msgspec.json.encode({"rows": [facts]}).decode()
        if json
        else f"trained {method} ({parameters:,} parameters) in {out}"
    )
