"""Reading tables: Parquet, CSV and JSON lines; what cannot be read ends in one clear sentence."""

from __future__ import annotations

import gzip
import lzma
import zlib
from pathlib import Path
from typing import IO, cast

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from slatewise.data.log_csv import read_csv
from slatewise.errors import DataError

PACKED = (".gz", ".xz", ".zst")
TEXT_SUFFIXES = (".csv", ".jsonl", ".ndjson")
UNPACK_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowInvalid)


def suffix_of(path: Path) -> str:
    """The suffix that says what the file holds: ``.csv`` for ``requests.csv.gz``."""
    return (path.with_suffix("") if path.suffix.lower() in PACKED else path).suffix.lower()


def find_table(folder: Path, stem: str) -> Path | None:
    """The file ``<stem>.parquet`` (.csv, .jsonl, .ndjson; text also compressed) in ``folder``, if any.

    Raises:
        DataError: there is more than one.
    """
    names = [f"{stem}.parquet", *(f"{stem}{s}{p}" for s in TEXT_SUFFIXES for p in ("", *PACKED))]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{folder} has both {found[0].name} and {found[1].name}; keep one of them.")
    return found[0] if found else None


def open_packed(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, unpacking .gz, .xz and .zst.

    Raises:
        OSError: the file cannot be opened.
    """
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix.lower() == ".xz":
        return cast(IO[bytes], lzma.open(path, "rb"))
    if path.suffix.lower() == ".zst":
        return cast(IO[bytes], pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def read_frame(path: Path) -> pl.DataFrame:
    """Read one table as it is; only CSV cells are given types (see :mod:`slatewise.data.log_csv`).

    Raises:
        DataError: there is no such file, it is damaged, or it is no table.
    """
    if not path.is_file():
        raise DataError(
            f"there is no file {path}." if not path.exists() else f"{path} is a folder, not a file."
        )
    if suffix_of(path) == ".parquet":
        return _read_parquet(path)
    if suffix_of(path) not in TEXT_SUFFIXES:
        raise DataError(f"{path} is no table; allowed are .parquet, .csv, .jsonl and .ndjson.")
    return read_csv(_bytes(path), str(path)) if suffix_of(path) == ".csv" else _read_jsonl(path)


def _bytes(path: Path) -> bytes:
    try:
        with open_packed(path) as file:
            return file.read()
    except UNPACK_ERRORS as error:
        raise DataError(f"{path} cannot be read: {_short(error)}.") from None


def _read_parquet(path: Path) -> pl.DataFrame:
    # pyarrow, because polars panics on some damaged files, and validated, because it may take them for whole.
    try:
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
        return cast(pl.DataFrame, pl.from_arrow(table))
    except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} is not a whole Parquet file: {_short(error)}; write it again.") from None


def _read_jsonl(path: Path) -> pl.DataFrame:
    raw = _bytes(path)
    if not raw.strip():
        return pl.DataFrame()
    try:
        return pl.read_ndjson(raw, infer_schema_length=None)
    except (pl.exceptions.PolarsError, RuntimeError) as error:  # which, depends on the version
        raise DataError(
            f"{path}{_bad_line(raw) or f' cannot be read as JSON lines: {_short(error)}.'}"
        ) from None


def _bad_line(raw: bytes) -> str:
    """The first line that is no JSON object, as the end of a sentence; empty where every line is one."""
    decoder = msgspec.json.Decoder(dict[str, object])
    for number, line in enumerate(raw.split(b"\n"), 1):
        try:
            if line.strip():
                decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            sentence = f", line {number}: {_short(error)}; every line must be one JSON object."
            if b"NaN" in line or b"Infinity" in line:  # which Python's json writes
                sentence += " JSON has no NaN or Infinity: write a number, or leave the row out."
            return sentence
    return ""


def _short(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0].rstrip(".")
    return text or type(error).__name__
