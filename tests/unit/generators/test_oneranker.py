"""OneRanker as a whole: what is retrieved is the best of the catalogue, refreshing without news changes nothing, and
every row of the ablation tables is a switch that does something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slatewise.api import prepare, train
from slatewise.config import build, replace
from slatewise.data.prepared import PreparedData, load_data
from slatewise.errors import ConfigError
from slatewise.methods import gpr, hstu, oneranker
from slatewise.methods.oneranker import _loss, _plan, _refresh
from slatewise.policies import catalogue
from slatewise.policies.catalogue import Catalogue
from slatewise.testing.fixtures import EVENTS
from slatewise.training.run import Run
from slatewise.training.sequences import start_model

BASE: dict[str, Any] = {
    "model": {
        "width": 16,
        "layers": 1,
        "dropout": 0.0,
        "id_dropout": 0.0,
        "target": {"fake_items": 6, "dropout": 0.0},
    },
    "sequence": {"window": 20, "ids": {"levels": 2, "codes": 24}},
}
SWITCHES: dict[str, dict[str, Any]] = {
    "no DC loss": {"gamma": 0.0},
    "no pass-through": {"model": {"ranking": {"pass_through": False}}},
    "ranker only": {"gamma": 0.0, "model": {"target_aware": False}},
    "ranker only, with DC": {"model": {"target_aware": False}},
    "no ranker": {"model": {"ranker": False}},
    "no fake items": {"model": {"target": {"fake_items": 0}}},
    "no decoupling": {"model": {"target": {"task_decoupling": False}}},
    "no cross-attention first": {"model": {"target": {"cross_first": False}}},
    "no heterogeneous mask": {"model": {"target": {"heterogeneous_mask": False}}},
    "candidates see each other": {"model": {"ranking": {"candidate_visible": True}}},
    "two tokens a task": {"model": {"tasks": ["impression", "click", "click", "value", "value"]}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    path = tmp_path_factory.mktemp("oneranker") / "d"
    prepare("store-events", path, dataset_options=dict(EVENTS), protocol_options={"history": 30})
    return load_data(path)


def config(changes: dict[str, Any]) -> oneranker.Config:
    from slatewise.config import merge

    return build(oneranker.Config, merge(BASE, changes))


def made(data: PreparedData, path: Path, changes: dict[str, Any] | None = None, **policy: Any) -> Catalogue:
    chosen = config(changes or {})
    model, full = start_model(
        "oneranker", chosen.model, chosen.sequence, data, Run(path, 3, path, quiet=True)
    )
    _refresh(model, 3)
    return Catalogue(model.eval(), catalogue.Config(model=full, **policy))


def loss_of(data: PreparedData, path: Path, changes: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    chosen = config(changes)
    policy = made(data, path, changes)
    batch = data.interactions().windows(20).batch(slice(0, 12))
    torch.manual_seed(5)
    total, numbers = _loss(policy.model.train(), batch, 10**6, chosen, _plan(chosen, data, "cpu"))
    total.backward()
    used = [p.grad is not None and bool(p.grad.isfinite().all()) for p in policy.model.parameters()]
    assert sum(used) > 0.9 * len(used)
    return float(total.detach()), numbers


def test_each_switch_changes_the_loss_and_trains(data: PreparedData, tmp_path: Path) -> None:
    full, numbers = loss_of(data, tmp_path, {})
    assert set(numbers) == {"mtp", "task", "rank", "dc"}
    for name, changes in SWITCHES.items():
        other, parts = loss_of(data, tmp_path, changes)
        assert other != pytest.approx(full, abs=1e-6), name
        assert ("dc" in parts) == ("rank" in parts and changes.get("gamma", 1) > 0), name
        assert ("task" in parts) == changes.get("model", {}).get("target_aware", True), name


def test_the_ranker_learns_nothing_from_consistency(data: PreparedData, tmp_path: Path) -> None:
    """With alpha, beta and delta 0, only what makes the generator's scores gets a gradient."""
    chosen = config({"alpha": 0.0, "beta": 0.0, "delta": 0.0, "gamma": 1.0})
    model = made(data, tmp_path).model.train()
    batch = data.interactions().windows(20).batch(slice(0, 12))
    total, _ = _loss(model, batch, 10**6, chosen, _plan(chosen, data, "cpu"))
    total.backward()
    assert model.decoder is not None
    moved = [float(p.grad.abs().max()) for p in model.decoder.parameters() if p.grad is not None]
    assert max(moved, default=0.0) == 0.0
    assert model.task_weight is not None
    assert model.task_weight.grad is not None
    assert float(model.task_weight.grad.abs().max()) > 0


def test_retrieval_is_the_best_of_the_catalogue(data: PreparedData, tmp_path: Path) -> None:
    """By vectors and by paths: what brute force over every item of the catalogue finds, none twice, none organic."""
    batch = data.split("test").batch(slice(0, 5))
    for changes, options in (
        ({"model": {"ranker": False}}, {"search": "vectors"}),
        ({"model": {"ranker": False}}, {"search": "vectors", "repeats": True}),
        ({"model": {"ranker": False}}, {"search": "paths", "width": 300}),
    ):
        policy = made(data, tmp_path, changes, **options)
        model = policy.model
        index_M = model.items.catalogue()
        assert set(index_M.tolist()) == set((~data.items.organic).nonzero()[0].tolist()) - {0}
        with torch.no_grad():
            places = model.at_requests(batch)
            wants = model.wants(places) if options["search"] == "vectors" else None
            item = model.items.of(index_M).expand(5, -1, -1)
            every_BM = model.generator_scores(places, wants, item, index_M.expand(5, -1))
            met_BM = (index_M[None, :, None] == batch.history_BH[:, None]).any(2)
            every_BM = every_BM.masked_fill(met_BM & torch.tensor(not options.get("repeats")), -torch.inf)
        best_BK, place_BK = every_BM.topk(20)
        found = policy.retrieve(batch, 20)
        torch.testing.assert_close(found.score_BK, best_BK, rtol=1e-4, atol=1e-4)
        assert torch.equal(found.items_BK, index_M[place_BK])
        assert bool(found.mask_BK.all())


def test_the_ranking_decoder_orders_what_was_found(data: PreparedData, tmp_path: Path) -> None:
    policy = made(data, tmp_path, rerank=40)
    found = policy.retrieve(data.split("test").batch(slice(0, 5)), 10)
    assert found.items_BK.shape == (5, 10)
    assert all(len(set(row)) == 10 for row in found.items_BK.tolist())
    assert bool((found.score_BK.diff(dim=1) <= 0).all())
    alone = policy.retrieve(data.split("test").batch(slice(2, 3)), 10)
    assert torch.equal(alone.items_BK, found.items_BK[2:3])


def test_the_history_is_read_once_and_the_catalogue_only_when_it_changed(
    data: PreparedData, tmp_path: Path
) -> None:
    policy, batch = made(data, tmp_path, rerank=40), data.split("test").batch(slice(0, 5))
    calls: list[str] = []
    policy.model.backbone.register_forward_hook(lambda *_: calls.append("history"))
    policy.model.items.register_forward_hook(
        lambda _, given, __: calls.append("catalogue" if given[0].ndim == 1 else "some")
    )
    policy.retrieve(batch, 10)
    assert (calls.count("history"), calls.count("catalogue")) == (1, 1)
    policy.retrieve(batch, 10)
    assert (calls.count("history"), calls.count("catalogue")) == (2, 1)
    before = policy.item_vectors()
    policy.refresh_clusters()  # what arrived moves the centres, and with them every vector
    assert not torch.equal(policy.item_vectors(), before)
    assert calls.count("catalogue") > 1


def test_a_request_and_an_item_meet_in_an_inner_product(data: PreparedData, tmp_path: Path) -> None:
    """The vectors that an index is filled and asked with give the scores of what is retrieved."""
    policy, batch = made(data, tmp_path), data.split("test").batch(slice(0, 5))
    found = policy.retrieve(batch, 20)
    score_BI = policy.request_vectors(batch) @ policy.item_vectors().T
    torch.testing.assert_close(score_BI.gather(1, found.items_BK), found.score_BK)
    paths = made(data, tmp_path, {"model": {"target_aware": False}})
    with pytest.raises(ConfigError, match="no step 2, so no vectors"):
        paths.item_vectors()


def test_refreshing_without_new_items_changes_nothing(data: PreparedData, tmp_path: Path) -> None:
    policy = made(data, tmp_path)
    target, items = policy.model.target, policy.model.items
    assert target is not None
    assert items.trained < len(items.codes_IS)  # the store has items that training never saw
    before = target.centre_JD.clone()
    kept, items.trained = items.trained, len(items.codes_IS)
    policy.refresh_clusters()
    assert torch.equal(target.centre_JD, before)
    items.trained, policy.config = kept, replace(policy.config, clustered=0)
    policy.refresh_clusters()
    moved = target.centre_JD.clone()
    assert not torch.equal(moved, before)
    policy.refresh_clusters()
    assert torch.equal(target.centre_JD, moved)
    plain = made(data, tmp_path, {"model": {"target": {"fake_items": 0}}})
    with pytest.raises(ConfigError, match="no fake items to refresh"):
        plain.refresh_clusters()


def test_every_item_of_the_catalogue_has_a_path_of_its_own(data: PreparedData, tmp_path: Path) -> None:
    items = made(data, tmp_path).model.items
    paths = items.codes_IS[items.catalogue_I]
    assert len(paths.unique(dim=0)) == len(paths)
    assert bool((items.codes_IS[items.organic_I] == -1).all())
    assert items.trie().items == len(paths)
    assert items.trie(trained=True).items == int(items.catalogue_I[: items.trained].sum())


def test_what_is_not_allowed_is_said(data: PreparedData, tmp_path: Path) -> None:
    run = Run(tmp_path, 1, tmp_path, quiet=True)
    for module, name in ((gpr, "gpr"), (hstu, "hstu")):
        with pytest.raises(ConfigError, match=f"{name} is OneRanker's first step alone"):
            module.fit(build(module.Config, {"model": {"ranker": True}}), data, run)
    with pytest.raises(
        ConfigError, match="task 'purchase' is no kind of feedback of this data, which has: click"
    ):
        _plan(config({"model": {"tasks": ["impression", "purchase"]}}), data, "cpu")
    with pytest.raises(
        ConfigError, match=r"9999 fake items are more than the [0-9]+ items that training knows"
    ):
        oneranker.fit(config({"model": {"target": {"fake_items": 9999}}}), data, run)
    with pytest.raises(ConfigError, match="temperature"):
        config({"temperature": 0.0})
    with pytest.raises(ConfigError, match="codes"):
        train(
            "hstu",
            {"sequence": {"ids": {"codes": 2, "levels": 2}}},
            data,
            Run(tmp_path / "run", 1, tmp_path / "run" / "stages", quiet=True),
        )
    assert not (tmp_path / "run").exists()  # what was refused leaves nothing that stands in the way
    with pytest.raises(ConfigError, match="no step 2"):
        made(data, tmp_path, {"model": {"target_aware": False}}, search="vectors")
    assert np.isfinite(data.items.numeric).all()
