"""MovieLens-1M: a million ratings of 3,706 films by 6,040 people (GroupLens, 2000–2003).

Reads the official ``ratings.dat``, ``users.dat`` and ``movies.dat`` from ``source``, plain or ``.xz``; with
``download`` it fetches the official archive into ``source`` where they are missing, and verifies its MD5,
which GroupLens publishes beside it.

Two states of ``ratings.dat`` are known: the official one, and one whose last column holds each rating's
chronological rank within its user instead of the clock time (which suffices for every protocol here: they use
only the order within a user). Users, films, stars and the order of lines are the same in both, so one
checksum of these columns recognises both; ratings that it does not recognise are read all the same and
counted as ``ratings with an unknown checksum``.

Source: https://grouplens.org/datasets/movielens/1m/; F. M. Harper and J. A. Konstan, "The MovieLens Datasets:
History and Context", ACM TiiS 5(4), 2015. Licence (the archive's README): research use with this citation; no
redistribution; no commercial or revenue-bearing use without GroupLens' permission; no endorsement implied.
"""

from __future__ import annotations

import hashlib
import http.client
import lzma
import urllib.request
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import polars as pl

from slatewise.config import Frozen
from slatewise.data.log import Log
from slatewise.errors import DataError
from slatewise.files import new_file

DEFAULT_PROTOCOL = "goalrank-v1"
FILES = ("ratings.dat", "users.dat", "movies.dat")
URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
ZIP_MD5 = "c4d9eecfca2ab87c1945afe126590906"  # ml-1m.zip.md5, published beside the archive
# sha256 of the lines "user::item::stars\n" in the file's order, the same for both states of the file
RATINGS_SHA256 = "2dad134c8b493373beed8d2a42e18ec2a93606fd957bd76c0bfbdef5c514b985"


class Config(Frozen):
    """Options. ``download``: fetch the official archive (6 MB) into ``source`` where files are missing."""

    download: bool = False


def load(config: Config, source: Path | None) -> Log:
    """Read the three files.

    Returns:
        A log without requests. ``interactions``: ``user_id, item_id, timestamp, feedback`` (1 to 5 stars);
        ``users``: ``gender, age`` (lower end of the bracket, years), ``occupation``, ``zip_area`` (first
        digit); ``items``: ``year`` of release and ``genres`` (list of strings).

    Raises:
        DataError: no ``source``, a file is missing or has another format, or the download failed.
    """
    if source is None:
        raise DataError(
            "movielens-1m needs --source DIR with ratings.dat, users.dat and movies.dat (plain or .xz)."
        )
    if config.download and any(_find(source, name) is None for name in FILES):
        _download(source)
    ratings = _read_ratings(_read(source, "ratings.dat"))
    counts = {"ratings": ratings.height}
    if content_sum(ratings) != RATINGS_SHA256:
        counts["ratings with an unknown checksum"] = ratings.height
    users = _read_users(_read(source, "users.dat"))
    items = _read_movies(_read(source, "movies.dat"))
    return Log(users=users, items=items, interactions=ratings, counts=counts)


def content_sum(ratings: pl.DataFrame) -> str:
    """The sha256 that recognises ratings: of users, films and stars in their order, without the clock."""
    line = pl.concat_str("user_id", "item_id", pl.col("feedback").cast(pl.Int8), separator="::")
    return hashlib.sha256(ratings.select(line).write_csv(include_header=False).encode()).hexdigest()


def _find(source: Path, name: str) -> Path | None:
    return next((path for path in (source / name, source / f"{name}.xz") if path.is_file()), None)


def _read(source: Path, name: str) -> bytes:
    path = _find(source, name)
    if path is None:
        raise DataError(
            f"{source} has neither {name} nor {name}.xz; name the folder of the unpacked ml-1m archive "
            "as --source, or let it be fetched with --download."
        )
    try:
        return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    except (lzma.LZMAError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def _table(raw: bytes, name: str, columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """The ``::`` file as a table; as polars separates by one byte, ``::`` becomes one that no text has."""
    text = raw.decode("latin-1").encode()  # titles have accents
    try:
        table = pl.read_csv(
            BytesIO(text.replace(b"::", b"\x1f")),
            separator="\x1f",
            has_header=False,
            quote_char=None,
            schema=columns,
        )
    except (pl.exceptions.PolarsError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{name} is not in the official format {'::'.join(columns)}: {reason}.") from None
    if sum(table.null_count().row(0)):
        raise DataError(f"{name} is not in the official format {'::'.join(columns)}: it has empty fields.")
    return table


def _read_ratings(raw: bytes) -> pl.DataFrame:
    columns = {"user_id": pl.Int64, "item_id": pl.Int64, "feedback": pl.Float32, "timestamp": pl.Int64}
    return _table(raw, "ratings.dat", columns).select("user_id", "item_id", "timestamp", "feedback")


def _read_users(raw: bytes) -> pl.DataFrame:
    columns = {
        "user_id": pl.Int64,
        "gender": pl.String,
        "age": pl.Int32,
        "occupation": pl.String,
        "zip": pl.String,
    }
    users = _table(raw, "users.dat", columns)
    return users.with_columns(zip_area=pl.col("zip").str.slice(0, 1)).drop("zip")


def _read_movies(raw: bytes) -> pl.DataFrame:
    movies = _table(raw, "movies.dat", {"item_id": pl.Int64, "title": pl.String, "genres": pl.String})
    return movies.select(
        "item_id",
        year=pl.col("title").str.extract(r"\((\d{4})\)\s*$", 1).cast(pl.Int32),
        genres=pl.col("genres").str.split("|"),
    )


def _download(source: Path) -> None:
    """Fetch the archive, verify it, and put the three files (and the licence) into ``source``."""
    archive = _fetch(URL)
    came = hashlib.md5(archive, usedforsecurity=False).hexdigest()
    if came != ZIP_MD5:
        raise DataError(
            f"the archive from {URL} has MD5 {came} instead of {ZIP_MD5}; nothing was unpacked, try again."
        )
    source.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(BytesIO(archive)) as members:
        for name in (*FILES, "README"):
            with new_file(source / name) as partial:
                partial.write_bytes(members.read(f"ml-1m/{name}"))


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as reply:
            return bytes(reply.read())
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{url} could not be fetched ({reason}); fetch it by hand and unpack it into --source."
        ) from None
