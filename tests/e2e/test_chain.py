"""Two stages in one recipe, at a tiny size: each seed trains its stages, retrieves, trains rows, and all stand in one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import call

RECIPE = """
title = "A small chain"
seeds = [1, 2]
metrics = ["catalogue-share", "true-value"]
limit = 12
[data]
dataset = "store-events"
protocol = "log-v1"
[data.dataset_options]
users = 30
items = 200
categories = 6
pool = 16
candidates = 6
length = 3
sessions = 10
bias = -3.0
[data.protocol_options]
history = 4
[shared.reward.train]
max_steps = 2
[shared.sequence.ids]
codes = 16
[shared.sequence.train]
max_steps = 2
batch_size = 8
[stages.one]
method = "oneranker"
candidates = 10
[stages.one.config.model]
width = 16
layers = 1
[stages.one.data.protocol_options]
test_share = {share}
[stages.mf]
method = "matrix-factorization"
candidates = 10
[stages.mf.data.protocol_options]
test_share = 0.5
[rows."one, then search"]
method = "reward-search"
candidates_from = "one"
[rows."mf, then search"]
like = "one, then search"
candidates_from = "mf"
[rows."one, then one"]
method = "oneranker"
candidates_from = "one"
[rows."one, then one".config.model]
width = 16
layers = 1
[rows."one alone"]
candidates_from = "one"
[[gaps]]
name = "retrieved and not taken"
better = "best-found (one)"
worse = "one, then search"
"""


def test_a_chain_runs_to_its_table_and_a_second_time_trains_nothing(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "chain.toml").write_text(RECIPE.format(share=0.5))
    arguments = ("reproduce", str(tmp_path / "chain.toml"), "--out", str(tmp_path / "out"), "--json")
    code, out, _ = call(monkeypatch, capsys, *arguments)
    assert code == 0
    rows = {row["policy"]: row for row in json.loads(out)["rows"]}
    assert {row["seeds"] for row in rows.values()} == {2}
    share = {name: row["metrics"]["catalogue-share"] for name, row in rows.items()}
    for row in ("one, then search", "one, then one", "one alone", "random (one)", "true-item-sort (one)"):
        assert 0 < share[row] <= share["best-found (one)"] + 1e-9 < 1
    assert share["mf, then search"] <= share["best-found (mf)"]
    assert rows["one alone"]["kind"] == "ranker"
    assert "optimum (one)" not in rows
    assert "retriever (one)" not in rows
    folder = tmp_path / "out" / "chain"
    made = {path.name.rsplit("-", 1)[0] for path in (folder / "seed-1").iterdir()}
    assert made == {
        "data-one",
        "data-mf",
        "stage-one",
        "stage-mf",
        "stages",
        "one--then-search",
        "one--then-one",
        "mf--then-search",
    }
    assert len(list(folder.glob("catalogue-*.npy"))) == 1  # searched once for all data sets and seeds
    assert len(list((tmp_path / "out" / "data").iterdir())) == 1  # both stages learn from the same part
    report = json.loads((folder / "report.json").read_text())
    assert "candidates from oneranker" in report["meta"]["data"]
    trained = {p: p.stat().st_mtime_ns for p in folder.glob("seed-*/**/*.safetensors")}
    code, again, _ = call(monkeypatch, capsys, *arguments)
    assert code == 0
    assert trained == {p: p.stat().st_mtime_ns for p in folder.glob("seed-*/**/*.safetensors")}
    assert {row["policy"]: row["metrics"] for row in json.loads(again)["rows"]} == {
        name: row["metrics"] for name, row in rows.items()
    }


def test_a_stage_that_learnt_from_test_requests_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    """It ends after the recipe's test requests begin, so the two stages' rows would be tested on other requests."""
    (tmp_path / "chain.toml").write_text(RECIPE.format(share=0.05).replace("limit = 12", "limit = 4"))
    code, _, err = call(
        monkeypatch,
        capsys,
        "reproduce",
        str(tmp_path / "chain.toml"),
        "--seeds",
        "1",
        "--out",
        str(tmp_path / "o"),
    )
    assert code == 2
    assert "prepare its data so that it ends earlier" in err


def test_the_chain_by_hand(tmp_path: Path, monkeypatch, capsys) -> None:
    """The verbs that `reproduce` puts together, one after the other."""
    recipe = tmp_path / "chain.toml"
    recipe.write_text(RECIPE.format(share=0.5))
    sizes = [
        word
        for size in (
            "users=30",
            "items=200",
            "categories=6",
            "pool=16",
            "candidates=6",
            "length=3",
            "sessions=10",
        )
        for word in ("--dataset-set", size)
    ]
    store = ["prepare", "store-events", "--protocol", "log-v1", *sizes, "--json"]
    early, run, late, second = (str(tmp_path / name) for name in ("EARLY", "RUN", "DATA", "SECOND"))
    assert call(monkeypatch, capsys, *store, "--set", "test_share=0.5", "--out", early)[0] == 0
    train = ["train", str(recipe), "--json"]
    assert call(monkeypatch, capsys, *train, "--row", "one", "--data", early, "--out", run)[0] == 0
    retrieve = [*store, "--candidates-from", run, "--candidates", "10", "--out", late]
    code, out, _ = call(monkeypatch, capsys, *retrieve)
    assert code == 0
    assert json.loads(out)["schema"]["candidates"] == 10
    assert json.loads(out)["counts"]["train requests left out: the first stage learnt until then"] > 0
    row = ["--row", "one, then search", "--data", late, "--out", second]
    assert call(monkeypatch, capsys, *train, *row)[0] == 0
    graded = [
        "evaluate",
        second,
        "--data",
        late,
        "--metric",
        "catalogue-share",
        "--limit",
        "5",
        "--latency",
        "0",
        "--json",
    ]
    code, out, _ = call(monkeypatch, capsys, *graded)
    assert code == 0
    assert {"reward-search", "retriever"} <= {row["policy"] for row in json.loads(out)["rows"]}
    for arguments, sentence in (
        ([*train, "--row", "one alone", "--data", late, "--out", str(tmp_path / "x")], "trains nothing"),
        ([*store, "--candidates-from", second, "--out", str(tmp_path / "x")], "only orders candidates"),
        ([*store, "--candidates", "10", "--out", str(tmp_path / "x")], "needs candidates_from"),
    ):
        code, _, err = call(monkeypatch, capsys, *arguments)
        assert code == 2
        assert sentence in err
        assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


FAULTS = {
    'candidates_from = "mf"': ('candidates_from = "mt"', "Did you mean 'mf'"),
    'method = "matrix-factorization"': ('method = "dnn"', "cannot search a catalogue by method 'dnn'"),
    '[rows."one alone"]': ('[rows."one alone"]\nrefresh = true\n[rows.nothing]', "needs a method"),
    "[stages.mf.data.protocol_options]": (
        "[stages.mf.data.protokol_options]",
        "unknown key 'protokol_options'",
    ),
    'method = "reward-search"': ('method = "reward-search"\nrefresh = true', "has no fake items"),
    "[[gaps]]": ('[stages.other]\nmethod = "popularity"\n[[gaps]]', 'a row with candidates_from = "other"'),
    "limit = 12": ('[judges.gru-same]\nkind = "gru"\nusers = "same"\n', "has stages and judges"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_chain_that_cannot_be_is_refused_before_anything_is_done(
    fault: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    change, sentence = FAULTS[fault]
    text = RECIPE.format(share=0.5)
    assert fault in text
    (tmp_path / "chain.toml").write_text(text.replace(fault, change))
    code, _, err = call(
        monkeypatch, capsys, "reproduce", str(tmp_path / "chain.toml"), "--out", str(tmp_path / "o")
    )
    assert code == 2
    assert sentence in err
    assert [path.name for path in tmp_path.iterdir()] == ["chain.toml"]


REFRESHED = """
title = "Refreshed"
seeds = [1]
metrics = ["hit@3", "cold-hr@20"]
[data]
dataset = "store-events"
protocol = "catalogue-v1"
[data.dataset_options]
users = 30
items = 200
categories = 6
pool = 16
candidates = 6
length = 3
sessions = 10
bias = -3.0
[data.protocol_options]
vectors = 4
candidates = 8
length = 3
history = 20
[shared.sequence.ids]
codes = 16
[shared.sequence.train]
max_steps = 2
batch_size = 8
[rows.oneranker]
method = "oneranker"
[rows.oneranker.config.model]
width = 16
layers = 1
[rows."oneranker, refreshed"]
like = "oneranker"
refresh = true
"""


def test_a_row_is_refreshed_without_being_trained_again(tmp_path: Path, monkeypatch, capsys) -> None:
    from slatewise.ranker import Ranker

    (tmp_path / "cold.toml").write_text(REFRESHED)
    out = tmp_path / "out"
    code, written, _ = call(
        monkeypatch, capsys, "reproduce", str(tmp_path / "cold.toml"), "--out", str(out), "--json"
    )
    assert code == 0
    assert {"oneranker", "oneranker, refreshed"} <= {row["policy"] for row in json.loads(written)["rows"]}
    report = json.loads((out / "cold" / "report.json").read_text())
    sections = {section["title"]: section for section in report["sections"]}
    ids = {row[0]: row for row in sections["Semantic ids of the first seed"]["rows"]}
    assert float(ids["oneranker"][3]) > 0
    assert len(ids["oneranker"][2].split(" / ")) == 3
    folder = out / "cold" / "seed-1"
    assert len(list((folder / "stages").iterdir())) == 1
    before, after = (
        Ranker.load(next(folder.glob(name))) for name in ("oneranker-??????", "oneranker--refreshed-*")
    )
    first, second = before.policy.state_dict(), after.policy.state_dict()
    moved = {name for name, weight in first.items() if not weight.equal(second[name])}
    assert moved == {"model.target.centre_JD", "model.target.weight_J"}
