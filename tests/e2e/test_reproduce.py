"""A recipe from start to report: rows share stages, expectations decide the exit code, a second run trains nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from commands import call
from slatewise import reproduce as reproducing
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


JUDGED = """
title = "Judged"
seeds = [1, 2]
metrics = ["hr@10%[self]", "hr@10%[few]", "regret[few]", "gain@3"]
compare = ["hr@10%[few]", "hr@10%[self]"]
[data]
dataset = "store"
[data.dataset_options]
requests = 600
validation = 60
test = 60
length = 3
candidates = 5
[data.protocol_options]
history = 0
length = 3
[shared.reward.train]
max_steps = 4
[shared.scorers.dnn.train]
max_steps = 2
[rows.dnn]
method = "dnn"
[rows.search]
method = "reward-search"
[judges.self]
kind = "self"
row = "{row}"
lists = 200
exact = 3
[judges.few]
kind = "pointwise"
users = "same"
[judges.few.train]
max_steps = 3
[[gaps]]
name = "search"
better = "best of few"
worse = "search"
"""


def test_judges_grade_every_row_and_are_trained_once_for_all_seeds(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "recipe.toml").write_text(JUDGED.format(row="search"))
    code, out = reproduce(monkeypatch, capsys, tmp_path, "--json")
    assert code == 0
    rows = {row["policy"]: row for row in json.loads(out)["rows"]}
    assert rows["best of few"]["metrics"]["hr@10%[few]"] == 1.0
    assert rows["best of few"]["metrics"]["regret[few]"] == 0.0
    assert rows["best of self"]["kind"] == "ceiling"
    own = rows["search"]["metrics"]["hr@10%[self]"]
    assert own > rows["random"]["metrics"]["hr@10%[self]"]
    assert rows["search"]["std"] is not None
    folder = tmp_path / "out" / "recipe"
    stages = [path.name.rsplit("-", 1)[0] for path in (folder / "judges").iterdir()]
    assert stages == ["judge-pointwise-same"]
    report = json.loads((folder / "report.json").read_text())
    sections = {section["title"].partition(":")[0]: section for section in report["sections"]}
    judges = {row[0]: row for row in sections["Judges"]["rows"]}
    assert judges["self"][1:3] == ["reward of search", "–"]
    assert judges["few"][1] == "pointwise, same users"
    assert judges["few"][5] == "0.00"  # order moves it not at all
    assert [row[3] for row in sections["Where the rest is lost"]["rows"]] == ["hr@10%[few]", "hr@10%[self]"]
    assert "p (sign)" in sections["Where the rest is lost"]["heads"]


def test_a_recipe_with_a_judge_that_cannot_be_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    for row, sentence in (("serch", "Did you mean 'search'"), ("dnn", "row 'dnn' keeps no reward")):
        (tmp_path / "recipe.toml").write_text(JUDGED.format(row=row))
        monkeypatch.setattr(sys, "argv", ["slatewise", "reproduce", str(tmp_path / "recipe.toml"), "--seeds", "1",
                                          "--out", str(tmp_path / "out")])  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert sentence in capsys.readouterr().err


def test_what_the_demo_leaves_is_exported_and_compared(monkeypatch, capsys, tmp_path: Path) -> None:
    """By the names that the README uses; the demo's recipe is a small one here."""
    small = tmp_path / "demo.toml"
    small.write_text(RECIPE.replace("{bound}", "0.0").replace("[1, 2]", "[1]"))
    whole = reproducing.reproduce
    monkeypatch.setattr(reproducing, "reproduce", lambda _, **options: whole(small, **options))
    monkeypatch.chdir(tmp_path)
    code, _, err = call(monkeypatch, capsys, "demo", "--json")
    assert code == 0, err
    artifact = ("export", "runs/demo/goalrank", "--data", "runs/demo/data", "--out", "ARTIFACT")
    code, out, err = call(monkeypatch, capsys, *artifact, "--backend", "eager", "--json")
    assert code == 0, err
    [form] = json.loads(out)["rows"]
    assert form["requests"] == form["identical"] > 60  # the whole test split is among them
