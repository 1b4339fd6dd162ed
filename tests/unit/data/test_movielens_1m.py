"""The MovieLens-1M reader on hand-written files, and on the real ones where they are."""

import hashlib
import io
import lzma
import os
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import polars as pl
import pytest

from slatewise.data.datasets import movielens_1m
from slatewise.errors import DataError

DATA = Path(os.environ.get("SLATEWISE_DATA", Path(__file__).resolve().parents[3] / ".." / "shared" / "data"))
FILES = {
    "ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
    "movies.dat": "661::Amélie: a (test) (1996)::Animation|Children's\n1193::Cuckoo's Nest (1975)::Drama\n",
}


def write(folder: Path, packed: bool = False) -> Path:
    for name, text in FILES.items():
        raw = text.encode("latin-1")
        if packed:
            (folder / f"{name}.xz").write_bytes(lzma.compress(raw))
        else:
            (folder / name).write_bytes(raw)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_reads_the_official_format(tmp_path: Path, packed: bool) -> None:
    log = movielens_1m.load(movielens_1m.Config(), write(tmp_path, packed))
    assert log.interactions is not None
    assert log.users is not None
    assert log.items is not None
    assert log.interactions.rows() == [
        (1, 1193, 978300760, 5.0),
        (1, 661, 978302109, 3.0),
        (2, 1193, 978298413, 4.0),
    ]
    assert log.users.row(0, named=True) == {
        "user_id": 1, "gender": "F", "age": 1, "occupation": "10", "zip_area": "4",
    }  # fmt: skip
    assert log.items.row(0, named=True) == {
        "item_id": 661,
        "year": 1996,
        "genres": ["Animation", "Children's"],
    }


def test_unknown_ratings_are_read_and_counted(tmp_path: Path) -> None:
    counts = movielens_1m.load(movielens_1m.Config(), write(tmp_path)).counts
    assert counts == {"ratings": 3, "ratings with an unknown checksum": 3}


def test_the_checksum_ignores_the_clock_and_nothing_else(tmp_path: Path) -> None:
    ratings = movielens_1m.load(movielens_1m.Config(), write(tmp_path)).interactions
    assert ratings is not None
    line = hashlib.sha256(b"1::1193::5\n1::661::3\n2::1193::4\n").hexdigest()
    assert movielens_1m.content_sum(ratings) == line
    assert movielens_1m.content_sum(ratings.with_columns(timestamp=pl.lit(0))) == line
    assert movielens_1m.content_sum(ratings.with_columns(feedback=pl.lit(1.0))) != line
    assert movielens_1m.content_sum(ratings.reverse()) != line


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ratings.dat", "1::1193::five::978300760\n"),
        ("ratings.dat", "1::1193::5\n"),
        ("users.dat", "a::b::c::d::e\n"),
    ],
)
def test_a_wrong_format_is_named(tmp_path: Path, name: str, text: str) -> None:
    (write(tmp_path) / name).write_text(text)
    with pytest.raises(DataError, match=f"{name} is not in the official format"):
        movielens_1m.load(movielens_1m.Config(), tmp_path)


def test_missing_files_and_damaged_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--source"):
        movielens_1m.load(movielens_1m.Config(), None)
    with pytest.raises(DataError, match=r"neither ratings\.dat nor"):
        movielens_1m.load(movielens_1m.Config(), tmp_path)
    (write(tmp_path, packed=True) / "ratings.dat.xz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        movielens_1m.load(movielens_1m.Config(), tmp_path)


def archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as members:
        for name, text in {**FILES, "README": "licence"}.items():
            members.writestr(f"ml-1m/{name}", text.encode("latin-1"))
    return packed.getvalue()


def test_download_verifies_then_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(archive()))
    source = tmp_path / "new"
    with pytest.raises(DataError, match="MD5"):
        movielens_1m.load(movielens_1m.Config(download=True), source)
    assert not source.exists()
    monkeypatch.setattr(movielens_1m, "ZIP_MD5", hashlib.md5(archive()).hexdigest())
    assert movielens_1m.load(movielens_1m.Config(download=True), source).counts["ratings"] == 3
    assert sorted(path.name for path in source.iterdir()) == [
        "README",
        "movies.dat",
        "ratings.dat",
        "users.dat",
    ]


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(DataError, match="could not be fetched") as caught:
        movielens_1m.load(movielens_1m.Config(download=True), tmp_path)
    assert "\n" not in str(caught.value)
    write(tmp_path)
    assert (
        movielens_1m.load(movielens_1m.Config(download=True), tmp_path).counts["ratings"] == 3
    )  # nothing to fetch


@pytest.mark.skipif(not (DATA / "ml-1m").is_dir(), reason="the MovieLens-1M files are not here")
def test_the_real_files_are_recognised() -> None:
    log = movielens_1m.load(movielens_1m.Config(), DATA / "ml-1m")
    assert log.counts == {"ratings": 1_000_209}
    assert log.users is not None
    assert log.items is not None
    assert (log.users.height, log.items.height) == (6_040, 3_883)
    assert log.items["year"].null_count() == 0
    assert log.items["genres"].explode().n_unique() == 18
