"""Writing answers: a table as Parquet, CSV or JSONL, by the file's ending, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from slatewise.errors import DataError
from slatewise.files import new_file

WRITERS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    ".parquet": lambda frame, path: frame.write_parquet(path),
    ".csv": lambda frame, path: frame.write_csv(path),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
}


def check_ending(path: Path) -> None:
    """Refuse a file name that no writer knows, before any work is done.

    Raises:
        DataError: the ending, and which are allowed.
    """
    if path.suffix not in WRITERS:
        raise DataError(f"--out is {path.name}, but must end in {', '.join(WRITERS)}.")


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write ``frame`` under a temporary name, then rename.

    Raises:
        DataError: an unknown ending, or the folder is not there.
    """
    check_ending(path)
    try:
        with new_file(path) as partial:
            WRITERS[path.suffix](frame, partial)
    except FileNotFoundError:
        raise DataError(f"{path.parent} is not a folder; make it first.") from None
