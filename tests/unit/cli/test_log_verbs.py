"""``slatewise log export`` and ``status``: what they print, and their mistakes in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from commands import call
from served import START, click, exposure
from slatewise.serving.log import open_log


@pytest.fixture
def store(tmp_path: Path) -> str:
    log = open_log(str(tmp_path / "log.db"))
    log.write([exposure(), exposure("r2", timestamp=START + 1, arm=None), click(), click("r3")])
    log.close()
    return str(tmp_path / "log.db")


def test_export(store: str, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "log.parquet"
    arguments = ["log", "export", "--store", f"sqlite:///{store}", "--out", str(out)]
    code, printed, _ = call(monkeypatch, capsys, *arguments)
    assert code == 0
    assert printed.startswith("2 requests; goalrank 1 in ")
    assert pl.read_parquet(out).height == 2
    assert call(monkeypatch, capsys, "check", str(out))[0] == 0
    more = [
        "--until",
        str(START + 1),
        "--arm",
        "goalrank",
        "--combine",
        "click=sum",
        "--kind",
        "click",
        "--json",
    ]
    code, printed, _ = call(monkeypatch, capsys, *arguments, *more)
    (row,) = json.loads(printed)["rows"]
    assert row == {
        "requests": 1,
        "arms": {"goalrank": 1},
        "events": {"click": 1},
        "without_scores": 0,
        "out": str(out),
    }


def test_status(store: str, monkeypatch, capsys) -> None:
    code, printed, _ = call(monkeypatch, capsys, "log", "status", "--store", store, "--json")
    (row,) = json.loads(printed)["rows"]
    assert row == {
        "exposures": {"no arm": 1, "goalrank": 1},
        "feedback": {"click": 1},
        "late": 0,
        "waiting": 1,
        "expired": 0,
        "first": "2023-11-14T22:13:20Z",
        "last": "2023-11-14T22:13:20Z",
        "version": 1,
    }
    code, printed, _ = call(monkeypatch, capsys, "log", "status", "--store", store)
    assert code == 0
    assert "goalrank: 1" in printed


def test_prune_deletes_what_is_older_and_only_when_told(store: str, monkeypatch, capsys) -> None:
    arguments = ["log", "prune", "--store", store, "--before", str(START + 1)]
    code, printed, _ = call(monkeypatch, capsys, *arguments)
    assert (code, printed) == (0, "1 requests would be deleted; say --yes to delete them.\n")
    code, printed, _ = call(monkeypatch, capsys, *arguments, "--yes", "--json")
    assert (code, json.loads(printed)["rows"]) == (0, [{"exposures": 1, "deleted": True}])
    log = open_log(store)
    status, found = log.status(), log.find(["r1", "r2"])
    assert (sorted(found), status.feedback, status.waiting) == (["r2"], {}, 1)
    assert log.prune(START + 2) == 1
    assert log.prune(START + 2) == 0
    assert log.write([exposure()])[0].outcome == "new"
    log.close()


MISTAKES = [
    (["log", "prune", "--store", "log.db", "--before", "soon", "--yes"], "--before is 'soon'"),
    (["log", "status", "--store", "none.db"], "there is no feedback log at none.db"),
    (["log", "export", "--store", "none.db", "--out", "x.parquet"], "there is no feedback log"),
    (["log", "export", "--store", "log.db", "--out", "x.csv"], "must end in .parquet"),
    (["log", "export", "--store", "log.db", "--out", "x.parquet", "--since", "soon"], "--since is 'soon'"),
    (["log", "export", "--store", "log.db", "--out", "x.parquet", "--arm", "b"], "its arms: goalrank"),
    (["log", "export", "--store", "log.db", "--out", "x.parquet", "--combine", "click"], "Write KIND=RULE"),
    (["log", "status", "--store", "mongo://x"], "Allowed: a path, sqlite://…, postgresql://…"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES)
def test_mistakes_are_one_sentence(
    store: str, tmp_path: Path, monkeypatch, capsys, arguments, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.glob("*.p*"))
    code, _, error = call(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in error
    assert error.startswith("slatewise: ")
    assert len(error.strip().splitlines()) == 1
    assert sorted(tmp_path.glob("*.p*")) == before
