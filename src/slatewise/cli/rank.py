"""``slatewise rank``: lists for a file of requests, in the caller's own ids."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="A run folder, or a ranker folder.")],
    requests: Annotated[Path, typer.Option(help="Requests in the log schema: Parquet, CSV or JSONL.")],
    out: Annotated[Path, typer.Option(help="Where the lists go (Parquet, CSV or JSONL by its ending).")],
    length: Annotated[
        int | None, typer.Option(help="List length; default and maximum: the trained one.")
    ] = None,
    decode: Annotated[
        str | None, typer.Option(help="Another decoding strategy than the ranker's own.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Rank every request of a file; the answer has request_id, position, item_id, score."""
    import msgspec

    from slatewise.data.log_faults import errors, summary
    from slatewise.data.log_tables import read_source
    from slatewise.data.log_write import check_ending, write_frame
    from slatewise.errors import ConfigError, DataError
    from slatewise.policies.decode import Decode
    from slatewise.ranker import Ranker

    check_ending(out)
    ranker = Ranker.load(run)
    if decode is not None:
        if not isinstance(ranker.policy, Decode):
            raise ConfigError(
                f"--decode needs a ranker with a generator; '{ranker.name}' chooses by a reward model."
            )
        ranker.policy.use(decode)
    tables = read_source(requests, ranking=True)
    if errors(tables.faults):
        raise DataError(summary(tables.faults, str(requests)))
    lists = ranker.rank(
        tables.requests, length=length, items=tables.others.get("items"), users=tables.others.get("users")
    )
    write_frame(out, lists)
    facts = {"requests": tables.requests.height, "items": lists.height, "out": str(out)}
    print(
        msgspec.json.encode({"rows": [facts]}).decode()
        if json
        else f"{facts['requests']:,} requests ranked into {out}"
    )
