"""``slatewise evaluate`` and ``slatewise compare``: what they print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from factories import make_data
from slatewise.cli import compare, evaluate
from slatewise.cli.evaluate import _blocks
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError, RunError
from slatewise.evaluation.ranking import rank_by_score
from slatewise.ranker import Ranker
from slatewise.types import Ranking


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return make_data(tmp_path_factory.mktemp("data") / "d")


@pytest.fixture
def run(data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder whose ranker sorts by the first item feature; the real loader has tests of its own."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"stage": "dnn", "step": 20, "loss": 0.5}\n')
    monkeypatch.setattr(Ranker, "load", staticmethod(lambda path, device="cpu": FakeRanker(data, Path(path))))
    return folder


class FakeRanker:
    name = "dnn"

    def __init__(self, data: PreparedData, path: Path) -> None:
        self.card: Any = SimpleNamespace(manifest=data.manifest, seed=len(path.name), config={})
        self.path = path

    def rank_batch(self, batch: ListBatch) -> Ranking:
        return rank_by_score(batch.item_numeric_BNF[:, :, 0], batch.mask_BN, 4)


def call(verb: Any, *words: object) -> Result:
    app = typer.Typer()
    app.command()(verb.command)
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "100"})


def test_evaluate_answers_machines_with_one_object(data: PreparedData, run: Path) -> None:
    result = call(evaluate, run, "--data", data.path, "--json", "--latency", 2, "--limit", 20)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    rows = {row["policy"]: row for row in answer["rows"]}
    assert {"dnn", "random", "retriever", "oracle"} <= set(rows)
    assert rows["dnn"]["kind"] == "ranker"
    assert rows["dnn"]["metrics"] == rows["popularity"]["metrics"]  # the same sort
    assert {"policy", "metrics", "std", "seeds", "paper"} <= set(rows["dnn"])
    assert rows["dnn"]["requests"] == 20


def test_seeds_share_a_row(data: PreparedData, run: Path) -> None:
    (run.parent / "again").mkdir()
    result = call(
        evaluate, run, run.parent / "again", "--data", data.path, "--json", "--metric", "auc", "--latency", 0
    )
    rows = {row["policy"]: row for row in json.loads(result.stdout)["rows"]}
    assert rows["dnn"]["seeds"] == 2
    assert rows["dnn"]["std"] == {"auc": 0.0}


def test_evaluate_prints_a_table_and_writes_a_report(data: PreparedData, run: Path, tmp_path: Path) -> None:
    result = call(evaluate, run, "--data", data.path, "--out", tmp_path / "report", "--latency", 0)
    assert result.exit_code == 0, result.output
    assert "retriever" in result.output
    assert "ndcg@4 %" in result.output
    assert "within-auc %" in result.output
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"report.html", "report.md", "report.json", "values.arrow"}
    page = (tmp_path / "report" / "report.html").read_text()
    assert "run 3" in page  # the seed in the box
    assert "dnn: loss" in page


def test_floors_need_no_run(data: PreparedData) -> None:
    result = call(evaluate, "--data", data.path, "--json", "--latency", 0, "--metric", "ndcg@4")
    assert {row["kind"] for row in json.loads(result.stdout)["rows"]} == {"floor", "ceiling"}


def test_a_judge_grades_too_and_is_kept_with_the_data(data: PreparedData) -> None:
    words = [
        "--data",
        data.path,
        "--json",
        "--latency",
        0,
        "--limit",
        20,
        "--metric",
        "hr@1%[pointwise-same]",
    ]
    found = json.loads(call(evaluate, *words, "--judge", "pointwise-same").stdout)
    assert [(judge["judge"], judge["order share %"]) for judge in found["judges"]] == [
        ("pointwise-same", "0.00")
    ]
    rows = found["rows"]
    metric = {row["policy"]: row["metrics"]["hr@1%[pointwise-same]"] for row in rows}
    assert metric["best of pointwise-same"] == 1.0
    assert metric["random"] < 0.5
    assert len(list((data.path / "judges").iterdir())) == 1
    for name, message in (("self", "needs a run that keeps its reward"), ("gru", "KIND-same, KIND-disjoint or self"),
                          ("gru-disjoint", "no split 'judges'"), ("gro-same", "unknown judge 'gro'")):  # fmt: skip
        assert message in str(call(evaluate, *words, "--judge", name).exception)


def test_a_run_of_other_data_is_refused(data: PreparedData, run: Path, tmp_path: Path) -> None:
    other = make_data(tmp_path / "other", seed=9)
    result = call(evaluate, run, "--data", other.path)
    assert isinstance(result.exception, RunError)
    assert "trained on other data" in str(result.exception)


def test_runs_of_different_targets_are_refused(
    data: PreparedData, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, device: str = "cpu") -> FakeRanker:
        ranker = FakeRanker(data, Path(path))
        ranker.card.manifest = msgspec.structs.replace(data.manifest, target={"click": float(len(path.name))})
        return ranker

    monkeypatch.setattr(Ranker, "load", staticmethod(load))
    (run.parent / "other").mkdir()
    result = call(evaluate, run, run.parent / "other", "--data", data.path)
    assert isinstance(result.exception, ConfigError)
    assert "different targets" in str(result.exception)


def test_a_missing_device_is_named(data: PreparedData) -> None:
    result = call(evaluate, "--data", data.path, "--device", "abacus")
    assert "there is no device 'abacus'" in str(result.exception)


def test_compare_a_run_with_a_floor(data: PreparedData, run: Path) -> None:
    result = call(compare, run, "random", "--data", data.path, "--metric", "precision@4", "--json")
    answer = json.loads(result.stdout)
    one, other = (row["metrics"]["precision@4"] for row in answer["rows"])
    assert answer["comparison"]["difference"] == pytest.approx(one - other)
    assert answer["rows"][0]["policy"] == str(run)
    assert answer["comparison"]["requests"] == 40


def test_compare_speaks_to_people(data: PreparedData) -> None:
    result = call(compare, "oracle", "random", "--data", data.path, "--metric", "hit@1")
    assert "hit@1: oracle 100.00, random" in result.output
    assert "sign test (McNemar's for yes or no) p = " in result.output
    assert "users" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["random", "random", "--metric", "auc"], "compared with itself"),
        (["randon", "oracle", "--metric", "auc"], "Did you mean 'random'"),
        (["random", "oracle", "--metric", "acu"], "Did you mean 'auc'"),
        (["random", "oracle", "--metric", "auc", "--split", "tset"], "there is no split 'tset'"),
    ],
)
def test_compare_refuses_in_one_sentence(data: PreparedData, words: list[str], message: str) -> None:
    result = call(compare, *words, "--data", data.path)
    assert message in str(result.exception)


def test_a_wide_table_is_cut_into_blocks() -> None:
    assert _blocks([10, 10, 10], 25) == [[0, 1], [2]]
    assert _blocks([50, 10], 25) == [[0], [1]]
    assert _blocks([5], 25) == [[0]]
