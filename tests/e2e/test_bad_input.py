"""Every mistake a user can make in a file, a recipe or a folder: one sentence, exit code 2, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from commands import call

GOOD: dict[str, list[Any]] = {
    "request_id": [f"r{i}" for i in range(20)],
    "user_id": [f"user {i % 3}" for i in range(20)],
    "timestamp": list(range(20)),
    "candidates": [["a", "b", "ç", "-4"]] * 20,
    "candidate_scores": [[0.1, 0.2, 0.3, 0.4]] * 20,
    "exposed": [["b", "a"]] * 20,
    "feedback_click": [[1.0, 0.0]] * 20,
}


def changed(row: int = 3, **values: Any) -> pl.DataFrame:
    """The good log with one row's cells changed."""
    table = {name: list(column) for name, column in GOOD.items()}
    for name, value in values.items():
        table[name][row] = value
    return pl.DataFrame(table, strict=False)


FAULTS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "a missing column": (lambda p: pl.DataFrame(GOOD).drop("candidates").write_parquet(p), ["candidates"]),
    "a list longer than its candidates": (
        lambda p: changed(exposed=["b", "a", "ç", "-4", "b"], feedback_click=[0.0] * 5).write_parquet(p),
        ["exposed", "row 3"],
    ),
    "an exposed item that is no candidate": (
        lambda p: changed(exposed=["b", "zebra"]).write_parquet(p),
        ["zebra", "row 3", "exposed"],
    ),
    "duplicate candidates": (
        lambda p: changed(candidates=["a", "b", "a", "-4"]).write_parquet(p),
        ["candidates", "row 3"],
    ),
    "feedback of another length": (
        lambda p: changed(feedback_click=[1.0]).write_parquet(p),
        ["feedback_click", "row 3"],
    ),
    "NaN scores": (
        lambda p: changed(candidate_scores=[0.1, float("nan"), 0.3, 0.4]).write_parquet(p),
        ["candidate_scores", "row 3"],
    ),
    "an empty file": (lambda p: p.write_bytes(b""), ["0 bytes"]),
    "no rows": (lambda p: pl.DataFrame(GOOD).clear().write_parquet(p), ["no rows"]),
    "a truncated Parquet file": (lambda p: _truncate(p), ["Parquet"]),
    "an empty candidates list": (
        lambda p: changed(candidates=[], candidate_scores=[], exposed=[], feedback_click=[]).write_parquet(p),
        ["candidates", "row 3"],
    ),
}


def _truncate(path: Path) -> None:
    pl.DataFrame(GOOD).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("verb", ["check", "prepare"])
def test_a_bad_log_ends_in_one_sentence_and_leaves_nothing(
    fault: str, verb: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    write, words = FAULTS[fault]
    log, out = tmp_path / "log.parquet", tmp_path / "data"
    write(log)
    arguments = ["check", str(log)]
    if verb == "prepare":
        arguments = ["prepare", "parquet", "--source", str(log), "--out", str(out)]
    code, _, err = call(monkeypatch, capsys, *arguments)
    assert code == 2
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("slatewise: ")
    assert all(word in err for word in words), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.parquet"]


def test_the_good_log_passes(tmp_path: Path, monkeypatch, capsys) -> None:
    log = tmp_path / "log.parquet"
    pl.DataFrame(GOOD).write_parquet(log)
    assert call(monkeypatch, capsys, "check", str(log))[0] == 0


RECIPES = {
    "an unknown key": ('titel = "x"', ["titel", "title"]),
    "an unknown method": (
        'title = "x"\n[data]\ndataset = "store"\n[rows.a]\nmethod = "goalrnk"',
        ["goalrnk", "goalrank"],
    ),
    "an unknown option": (
        'title = "x"\n[data]\ndataset = "store"\n[rows.a]\nmethod = "goalrank"\n[rows.a.config.train]\nepoch = 1',
        ["train.epoch", "epochs"],
    ),
    "no TOML": ("title = ", ["not a TOML file"]),
    "a row that is not there": (
        'title = "x"\n[data]\ndataset = "store"\n[rows.a]\nmethod = "dnn"\n[[expected]]\nrow = "b"\nmetric = "auc"',
        ["'b'"],
    ),
}


@pytest.mark.parametrize("fault", list(RECIPES))
def test_a_bad_recipe_is_refused_before_anything_is_done(
    fault: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    text, words = RECIPES[fault]
    (tmp_path / "recipe.toml").write_text(text)
    for arguments in (
        [
            "train",
            str(tmp_path / "recipe.toml"),
            "--data",
            str(tmp_path / "none"),
            "--out",
            str(tmp_path / "run"),
        ],
        ["reproduce", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out")],
    ):
        code, _, err = call(monkeypatch, capsys, *arguments)
        assert code == 2
        assert len(err.strip().splitlines()) == 1
        assert all(word in err for word in words), err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


def test_a_folder_that_is_no_run_and_a_data_set_that_is_none(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "folder").mkdir()
    log = tmp_path / "log.parquet"
    pl.DataFrame(GOOD).write_parquet(log)
    code, _, err = call(
        monkeypatch,
        capsys,
        "rank",
        str(tmp_path / "folder"),
        "--requests",
        str(log),
        "--out",
        str(tmp_path / "l.parquet"),
    )
    assert code == 2
    assert "not a run or ranker folder" in err
    code, _, err = call(
        monkeypatch, capsys, "evaluate", str(tmp_path / "folder"), "--data", str(tmp_path / "folder")
    )
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "log.parquet"]
