"""The ranker: its answers in the caller's ids, whatever the request; save, load, and the golden requests' guard."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

import slatewise as sw
from slatewise.errors import ConfigError, RunError
from slatewise.tensors import load_tensors, save_tensors

FEW = {"train": {"max_steps": 3}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranker")
    sw.prepare("store", folder / "data", dataset_options={"requests": 400, "validation": 40, "test": 40})
    options = {"reward": FEW, "scorers": {"dnn": FEW, "prm": FEW}, **FEW}
    sw.fit("goalrank", sw.load_data(folder / "data"), out=folder / "run", **options)
    return folder


@pytest.fixture(scope="module")
def ranker(folder: Path) -> sw.Ranker:
    return sw.Ranker.load(folder / "run")


@pytest.fixture
def requests(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "data" / "examples.parquet")


def lists(answer: pl.DataFrame) -> dict[str, list[str]]:
    return dict(answer.group_by("request_id", maintain_order=True).agg("item_id").iter_rows())


def test_every_list_has_distinct_candidates_in_order(ranker, requests) -> None:
    answer = ranker.rank(requests)
    assert answer.columns == ["request_id", "position", "item_id", "score"]
    for request, items in lists(answer).items():
        candidates = requests.filter(pl.col("request_id") == request)["candidates"][0].to_list()
        assert len(items) == len(set(items)) == 6
        assert set(items) <= set(candidates)
    assert answer["position"].to_list() == [1, 2, 3, 4, 5, 6] * requests.height
    falling = answer.group_by("request_id").agg((pl.col("score").diff().drop_nulls() < 0).all())
    assert falling["score"].all()


def test_one_by_one_in_batches_and_loaded_again_the_lists_are_the_same(
    ranker, requests, folder, tmp_path
) -> None:
    whole = lists(ranker.rank(requests))
    single = {k: v for row in range(requests.height) for k, v in lists(ranker.rank(requests[row])).items()}
    assert whole == single == lists(ranker.rank(requests, batch_size=3))
    ranker.save(tmp_path / "copy")
    assert lists(sw.Ranker.load(tmp_path / "copy").rank(requests)) == whole


def test_permuted_candidates_give_the_same_list(ranker, requests) -> None:
    backwards = requests.with_columns(
        pl.col("candidates").list.reverse(), pl.col("candidate_scores").list.reverse()
    )
    assert lists(ranker.rank(backwards)) == lists(ranker.rank(requests))


def test_candidates_may_be_few_unknown_or_without_scores_and_users_strangers(ranker, requests) -> None:
    odd = pl.DataFrame(
        {
            "request_id": [1, 2, 3],
            "user_id": ["nobody ☂", None, "u3"],
            "candidates": [["i1", "new item", "i2"], ["i5"], ["i7", "i8", "i9", "i10", "i11", "i12", "i13"]],
        }
    )
    answer = ranker.rank(odd)
    assert [len(items) for items in lists(answer).values()] == [3, 1, 6]
    assert set(lists(answer)[1]) == {"i1", "new item", "i2"}


def test_a_new_item_is_ranked_by_its_features(ranker, requests) -> None:
    renamed = requests[:1].with_columns(pl.Series("candidates", [[f"new {i}" for i in range(12)]]))
    features = pl.DataFrame({"item_id": ["new 0", "new 1"], "quality": [3.0, 3.0]})
    plain, given = (ranker.transform.batch(renamed, items=items) for items in (None, features))
    scores = [ranker.policy.generator.encode(batch).parts.bias_BN[0] for batch in (plain, given)]
    moved = (scores[0] - scores[1]).abs() > 1e-6
    assert moved[:2].all()
    assert len(lists(ranker.rank(renamed, items=features))["r" + str(requests["request_id"][0])[1:]]) == 6


def test_shorter_lists_are_prefixes_and_longer_ones_are_refused(ranker, requests) -> None:
    short = lists(ranker.rank(requests, length=2))
    assert all(items == lists(ranker.rank(requests))[request][:2] for request, items in short.items())
    with pytest.raises(ConfigError, match="length is 7, but this ranker writes lists of 1 to 6"):
        ranker.rank(requests, length=7)


def test_no_requests_give_an_empty_answer(ranker, requests) -> None:
    answer = ranker.rank(requests.clear())
    assert answer.height == 0
    assert answer.columns == ["request_id", "position", "item_id", "score"]


def test_changed_weights_are_caught_by_the_golden_requests(folder, tmp_path) -> None:
    shutil.copytree(folder / "run" / "ranker", tmp_path / "ranker")
    weights, facts = load_tensors(tmp_path / "ranker" / "model.safetensors")
    save_tensors(tmp_path / "ranker" / "model.safetensors", {k: -v for k, v in weights.items()}, facts)
    with pytest.raises(RunError, match="golden requests"):
        sw.Ranker.load(tmp_path / "ranker")


def test_a_run_with_another_target_is_another_run(folder) -> None:
    data = sw.load_data(folder / "data").with_target({"conversion": 1.0})
    options = {"reward": FEW, "scorers": {"dnn": FEW, "prm": FEW}, **FEW}
    with pytest.raises(RunError, match="another"):
        sw.fit("goalrank", data, out=folder / "run", resume=True, **options)


@pytest.mark.parametrize("name", ["ranker.json", "model.safetensors"])
def test_a_damaged_ranker_is_refused_in_one_sentence(name: str, folder, tmp_path) -> None:
    shutil.copytree(folder / "run" / "ranker", tmp_path / "ranker")
    path = tmp_path / "ranker" / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RunError):
        sw.Ranker.load(tmp_path / "ranker")


def test_nothing_in_a_run_is_pickled(folder) -> None:
    endings = {path.suffix for path in (folder / "run").rglob("*") if path.is_file()}
    assert endings <= {".json", ".jsonl", ".safetensors", ".parquet", ".arrow"}
