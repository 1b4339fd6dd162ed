"""``slatewise features load``: what it prints, and its mistakes in one sentence with nothing loaded."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from commands import call
from sample_logs import item_table, user_table
from slatewise.serving.features import open_store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    user_table(5).write_csv(tmp_path / "users.csv")
    item_table(7).drop("genres").write_parquet(tmp_path / "items.parquet")
    rows = {
        "user_id": ["u1", "u1", "u2"],
        "item_id": [1, 2, 3],
        "timestamp": [5, 6, 7],
        "feedback_click": [1, 0, 1],
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "seen.parquet")
    return tmp_path


def test_loading(folder: Path, monkeypatch, capsys) -> None:
    files = ["--users", "users.csv", "--items", "items.parquet", "--interactions", "seen.parquet"]
    code, printed, _ = call(monkeypatch, capsys, "features", "load", "--store", "f.db", *files)
    assert (code, printed) == (0, "5 users, 7 items, 2 histories loaded.\n")
    kept = open_store("f.db").get(["u1"], ["3", "9"], 5)
    assert set(kept.items) == {"3"}
    assert kept.past.keys() == kept.users.keys() == {"u1"}
    code, printed, _ = call(
        monkeypatch, capsys, "features", "load", "--store", "sqlite:///f.db", "--users", "users.csv", "--json"
    )
    assert json.loads(printed) == {"rows": [{"users": 5, "store": "sqlite:///f.db"}]}


MISTAKES = [
    ([], "nothing to load"),
    (["--users", "none.csv"], "there is no file none.csv"),
    (["--users", "items.parquet"], "user_id is missing"),
    (["--items", "items.parquet", "--interactions", "users.csv"], "item_id is missing"),
    (["--items", "items.parquet", "--set", "busy=1"], "Did you mean 'busy_seconds'"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES)
def test_mistakes_are_one_sentence(folder: Path, monkeypatch, capsys, arguments, said: str) -> None:
    code, _, error = call(monkeypatch, capsys, "features", "load", "--store", "f.db", *arguments)
    assert code == 2
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (folder / "f.db").exists()


def test_a_store_that_does_not_answer(folder: Path, monkeypatch, capsys) -> None:
    code, _, error = call(
        monkeypatch, capsys, "features", "load", "--store", "redis://localhost:1", "--users", "users.csv"
    )
    assert code == 2
    assert error.startswith("slatewise: the feature store does not answer")
