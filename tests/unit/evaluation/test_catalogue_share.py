"""Shares of the best list of the whole catalogue: against the simulator's own, searched once, for every kind of truth."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from factories import make_data
from slatewise.data.prepared import PreparedData, load_data
from slatewise.errors import ConfigError
from slatewise.evaluation import catalogue_share
from slatewise.evaluation.catalogue_share import BestValues
from slatewise.evaluation.offline import Config, evaluate
from slatewise.evaluation.policies import floors_and_ceilings
from slatewise.evaluation.truth import Truth
from slatewise.protocols.prepare import prepare

# 22 items are sold, of which 4 arrive when the last session begins
TINY = {
    "users": 12,
    "items": 24,
    "categories": 4,
    "organic": 0.1,
    "content": 0,
    "arrivals": 0.2,
    "late": 1.0,
    "pool": 5,
    "candidates": 2,
    "length": 2,
    "sessions": 4,
    "bias": -1.0,
}
ONCE = Config(latency=0, ranked=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    out = tmp_path_factory.mktemp("share") / "data"
    prepare("store-events", "log-v1", None, out, dataset_options=TINY, protocol_options={})
    return load_data(out)


def test_the_best_list_is_that_of_all_lists_of_what_has_arrived(data: PreparedData) -> None:
    truth, opened = Truth(data), data.split("test")
    batch = opened.batch(slice(0, len(opened)))
    user_B, offer_BI = truth.user_rows(batch), truth.store.on_offer(batch.time_B)
    found_B = BestValues(truth.store, 2, truth.kind, truth.cache).of(user_B, batch.time_B)
    for b in range(batch.size):
        pairs = list(itertools.permutations(offer_BI[b].nonzero()[:, 0].tolist(), 2))
        items, order = torch.tensor(pairs), torch.tensor([[[0, 1]]]).expand(len(pairs), 1, 2)
        value_M = truth.store.value(user_B[b].expand(len(pairs)), items, order, truth.kind)
        assert float(found_B[b]) == pytest.approx(float(value_M.max()), abs=1e-9)


def test_a_table_shows_the_share(data: PreparedData) -> None:
    found = evaluate(
        floors_and_ceilings(data),
        data,
        metrics=["catalogue_share", "true-value", "oracle-share"],
        config=ONCE,
    )
    share = {name: found.value(name, "catalogue-share") for name in ("random", "optimum")}
    assert share["random"].mean() < share["optimum"].mean() < 1
    best = found.value("optimum", "true-value") / share["optimum"]
    np.testing.assert_allclose(found.value("random", "true-value") / share["random"], best)
    assert (share["optimum"] <= 1 + 1e-9).all()


def test_it_is_searched_once_and_kept(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    batch = data.split("validation").batch(slice(0, 3))
    truth = Truth(data, shared=tmp_path)

    def values() -> torch.Tensor:
        return BestValues(truth.store, truth.length, truth.kind, truth.cache).of(
            truth.user_rows(batch), batch.time_B
        )

    first = values()
    assert [path.name[:10] for path in tmp_path.iterdir()] == ["catalogue-"]
    with monkeypatch.context() as patch:
        patch.setattr(catalogue_share, "best_of_catalogue", lambda *_: pytest.fail("searched again"))
        assert torch.equal(values(), first)
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:40])
    assert torch.equal(values(), first)
    monkeypatch.setattr(catalogue_share.np, "save", lambda *_: (_ for _ in ()).throw(PermissionError()))
    path.unlink()
    assert torch.equal(values(), first)
    assert not list(tmp_path.iterdir())


def test_the_store_of_lists_has_it_too(tmp_path: Path) -> None:
    sizes = {"users": 10, "items": 30, "candidates": 4, "pool": 4, "length": 2, "requests": 20, "test": 5}
    prepare("store", None, None, tmp_path / "d", dataset_options=sizes, protocol_options={"length": 2})
    data = load_data(tmp_path / "d")
    found = evaluate(floors_and_ceilings(data), data, metrics=["catalogue-share"], config=ONCE)
    assert 0 < found.value("optimum", "catalogue-share").max() <= 1


def test_it_needs_a_truth_and_its_name(data: PreparedData, tmp_path: Path) -> None:
    other = make_data(tmp_path / "d")
    with pytest.raises(ConfigError, match="'catalogue-share' needs data from a simulator"):
        evaluate(floors_and_ceilings(other), other, metrics=["catalogue-share"], config=ONCE)
    with pytest.raises(ConfigError, match="Did you mean 'catalogue-share'"):
        evaluate(floors_and_ceilings(data), data, metrics=["catalogue-shar"], config=ONCE)
