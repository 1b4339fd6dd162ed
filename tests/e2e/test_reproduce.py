"""A recipe from start to report: rows share stages, expectations decide the exit code, a second run trains nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from slatewise.cli import main

RECIPE = """
title = "A small recipe"
seeds = [1, 2]
metrics = ["true-value", "oracle-share"]
compare = ["oracle-share"]
notes = "Nothing to learn from."
[data]
dataset = "store"
[data.dataset_options]
requests = 600
validation = 60
test = 60
[shared.reward.train]
max_steps = 4
[shared.scorers.dnn.train]
max_steps = 2
[shared.scorers.prm.train]
max_steps = 2
[rows.goalrank]
method = "goalrank"
[rows.goalrank.config.train]
max_steps = 2
[rows."goalrank, cold"]
like = "goalrank"
[rows."goalrank, cold".config]
warm_start = "none"
[rows.search]
method = "reward-search"
[[expected]]
row = "goalrank"
metric = "oracle-share"
at_least = {bound}
[[gaps]]
name = "all of it"
better = "optimum"
worse = "search"
[[curves]]
name = "Warm and cold"
axis = "warm"
rows = ["goalrank", "goalrank, cold"]
values = [1, 0]
metric = "oracle-share"
[paper.goalrank]
oracle-share = 0.5
"""


def reproduce(monkeypatch, capsys, folder: Path, *more: str) -> tuple[int, str]:
    arguments = ["reproduce", str(folder / "recipe.toml"), "--out", str(folder / "out"), *more]
    monkeypatch.setattr(sys, "argv", ["slatewise", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


def test_a_recipe_runs_to_its_report_and_a_second_time_trains_nothing(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.format(bound=0.1))
    code, out = reproduce(monkeypatch, capsys, tmp_path)
    assert code == 0
    assert "goalrank (2 seeds)" in out
    assert "Where the rest is lost" in out
    folder = tmp_path / "out" / "recipe"
    assert {"report.md", "report.html", "report.json", "values.arrow", "curve-1.png"} <= {
        p.name for p in folder.iterdir()
    }
    stages = sorted(p.name.rsplit("-", 1)[0] for p in (folder / "seed-1" / "stages").iterdir())
    assert stages == ["dnn", "goalrank", "goalrank", "prm", "reward"]  # three rows, one reward
    trained = {p: p.stat().st_mtime_ns for p in folder.glob("seed-*/stages/*/model.safetensors")}
    code, out = reproduce(monkeypatch, capsys, tmp_path, "--json")
    assert code == 0
    assert trained == {p: p.stat().st_mtime_ns for p in folder.glob("seed-*/stages/*/model.safetensors")}
    rows = {row["policy"]: row for row in json.loads(out)["rows"]}
    assert rows["goalrank"]["seeds"] == 2
    assert set(rows["goalrank"]["std"]) == {"true-value", "oracle-share"}
    assert rows["goalrank"]["paper"] == {"oracle-share": 0.5}
    assert 0.3 < rows["random"]["metrics"]["oracle-share"] < rows["optimum"]["metrics"]["oracle-share"] == 1.0


def test_an_expectation_that_fails_is_exit_code_one(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.format(bound=0.999))
    code, out = reproduce(monkeypatch, capsys, tmp_path, "--seeds", "1")
    assert code == 1
    assert "| NO |" in out
