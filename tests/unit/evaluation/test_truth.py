"""True values of a prepared simulated store: against the store itself, cached, and as metrics."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from factories import make_data
from slatewise.data.prepared import PreparedData, load_data
from slatewise.errors import ConfigError, DataError
from slatewise.evaluation.offline import Config, default_metrics, evaluate
from slatewise.evaluation.policies import floors_and_ceilings
from slatewise.evaluation.truth import Truth
from slatewise.protocols.prepare import prepare

OPTIONS = {"users": 40, "items": 60, "candidates": 6, "length": 3, "requests": 60}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    out = tmp_path_factory.mktemp("store") / "data"
    prepare("store", None, None, out, dataset_options=OPTIONS, protocol_options={"length": 3})
    return load_data(out)


def test_the_optimum_is_the_best_of_all_lists(data: PreparedData) -> None:
    truth, batch = Truth(data), data.split("test").batch(slice(0, 5))
    every = torch.tensor(list(itertools.permutations(range(6), 3))).expand(5, -1, -1)
    value_BG, best = truth.value(batch, every), truth.optimum(batch, "test")
    torch.testing.assert_close(value_BG.max(1).values, best.value_B, atol=1e-9, rtol=0)
    torch.testing.assert_close(truth.value(batch, best.order_BL[:, None])[:, 0], best.value_B)


def test_logged_clicks_come_from_this_truth(data: PreparedData) -> None:
    """Ids lead to the right rows: logged clicks sum to what the truth expects of the logged lists."""
    split = data.split("train")
    batch = split.batch(slice(0, len(split)))
    expected_B = Truth(data).value(batch, batch.exposed_BE[:, None])[:, 0]
    clicks_B = batch.gain_BE([1.0, 0.0, 0.0]).sum(1)
    error = float((clicks_B - expected_B).std()) / len(split) ** 0.5
    assert abs(float(clicks_B.double().mean() - expected_B.mean())) < 4 * error
    assert np.corrcoef(clicks_B, expected_B)[0, 1] > 0.2


def test_optima_are_searched_once_and_kept(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = data.split("validation").batch(slice(2, 8))
    first = Truth(data).optimum(batch, "validation")
    files = [path.name for path in data.path.glob("optimum-validation-*")]
    assert len(files) == 1
    again = Truth(data)
    monkeypatch.setattr(again, "_search", lambda *_: pytest.fail("searched again"))
    second = again.optimum(batch.take(torch.tensor([3, 0])), "validation")
    assert torch.equal(second.value_B, first.value_B[[3, 0]])
    assert torch.equal(second.order_BL, first.order_BL[[3, 0]])
    Truth(data.with_target({"value": 1.0})).optimum(batch, "validation")
    assert len(list(data.path.glob("optimum-validation-*"))) == 2  # another target has other optima


def test_a_damaged_cache_is_searched_again(data: PreparedData) -> None:
    batch = data.split("train").batch(slice(0, 3))
    first = Truth(data).optimum(batch, "train")
    path = next(data.path.glob("optimum-train-*"))
    path.write_bytes(path.read_bytes()[:40])
    assert torch.equal(Truth(data).optimum(batch, "train").value_B, first.value_B)


def test_weights_of_several_kinds_add_up(data: PreparedData) -> None:
    batch = data.split("test").batch(slice(0, 4))
    lists = torch.tensor([[0, 1, 2], [5, 4, 3]]).expand(4, -1, -1)
    click = Truth(data).value(batch, lists)
    worth = Truth(data.with_target({"value": 1.0})).value(batch, lists)
    both = Truth(data.with_target({"click": 2.0, "value": 0.5})).value(batch, lists)
    torch.testing.assert_close(both, 2 * click + 0.5 * worth)


def test_floors_stand_below_the_optimum(data: PreparedData) -> None:
    found = evaluate(
        floors_and_ceilings(data),
        data,
        metrics=[*default_metrics(data), "true-rank"],
        config=Config(latency=0, ranked=5),
    )
    rows = {row.policy: row.metrics for row in found.table()}
    assert rows["optimum"]["oracle-share"] == pytest.approx(1.0)
    assert rows["optimum"]["regret"] == 0
    assert rows["optimum"]["true-rank"] == 1
    assert rows["optimum"]["true-hr@1%"] == 1.0
    assert (
        rows["random"]["oracle-share"]
        < rows["retriever"]["oracle-share"]
        < rows["true-item-sort"]["oracle-share"]
        < 1
    )
    for policy in rows:
        value, best = found.value(policy, "true-value"), found.value("optimum", "true-value")
        np.testing.assert_allclose(found.value(policy, "oracle-share"), value / best)
        np.testing.assert_allclose(found.value(policy, "regret"), best - value, atol=1e-9)
        assert int((~np.isnan(found.value(policy, "true-rank"))).sum()) == 5


def test_ranks_count_better_lists(data: PreparedData) -> None:
    found = evaluate(
        floors_and_ceilings(data), data, metrics=["true-rank"], config=Config(latency=0, ranked=3)
    )
    batch = data.split("test").batch(slice(0, 3))
    every = torch.tensor(list(itertools.permutations(range(6), 3))).expand(3, -1, -1)
    values = Truth(data).value(batch, every)
    mine = Truth(data).of_ranking(batch, floors_and_ceilings(data)[1].rank(batch))
    better = (values > mine[:, None] + 1e-9).sum(1)
    assert found.value("retriever", "true-rank")[:3].tolist() == (1 + better).tolist()


def test_data_without_a_simulator_has_no_truth(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no known true values"):
        Truth(make_data(tmp_path / "d"))


def test_items_outside_the_vocabulary_are_refused(data: PreparedData) -> None:
    batch = data.split("test").batch(slice(0, 2))
    batch.candidates_BN[0, 0] = 0
    with pytest.raises(DataError, match="outside the vocabulary"):
        Truth(data).value(batch, torch.zeros(2, 1, 1, dtype=torch.long))


def test_a_mistyped_true_metric_gets_the_nearest(data: PreparedData) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'true-value'"):
        evaluate(floors_and_ceilings(data), data, metrics=["true-valu"], config=Config(latency=0))


def test_a_read_only_folder_costs_only_the_cache(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    files = set(data.path.iterdir())
    monkeypatch.setattr("slatewise.evaluation.truth.np.save", refuse)
    truth, batch = Truth(data.with_target({"conversion": 1.0})), data.split("test").batch(slice(0, 2))
    assert (truth.optimum(batch, "test").value_B > 0).all()
    assert set(data.path.iterdir()) == files
