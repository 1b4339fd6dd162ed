"""A ranker that meets new items: the old ones stay where they are, the new ones lie where their features say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import slatewise as sw
from slatewise.api import prepare, refresh
from slatewise.candidates import semantic_ids
from slatewise.candidates.semantic_ids import SemanticIdConfig
from slatewise.data.prepared import PreparedData
from slatewise.data.tables import Entities
from slatewise.errors import DataError, RunError
from slatewise.policies.catalogue import Catalogue
from slatewise.ranker import Ranker
from slatewise.testing.fixtures import EVENTS, events_log
from slatewise.training import refresh as refreshing
from slatewise.training.sequences import extend_space, item_space

TRAIN = {"max_steps": 3, "batch_size": 16, "validations": 1}
FEW: dict[str, Any] = {
    "model": {"width": 16, "layers": 1, "length": 32},
    "sequence": {"ids": {"codes": 16}, "train": TRAIN},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refresh")
    options = {"vectors": 4, "candidates": 12, "length": 5, "history": 30}
    data = prepare("store-events", folder / "data", dataset_options=EVENTS, protocol_options=options)
    sw.fit("oneranker", data, out=folder / "one", **FEW)
    sw.fit("hstu", data, out=folder / "hstu", **FEW)
    return folder


@pytest.fixture(scope="module")
def data(root: Path) -> PreparedData:
    return sw.load_data(root / "data")


def newcomers(count: int = 30) -> pl.DataFrame:
    """Items with the features of others under ids of their own, and two old ones; the last of the new ones is content."""
    items = events_log().items
    assert items is not None
    old, new = items.head(2), items.filter(~pl.col("organic")).head(count)
    ids = [f"new {place}" for place in range(count)]
    new = new.with_columns(item_id=pl.Series(ids), organic=pl.Series([False] * (count - 1) + [True]))
    return pl.concat([old, new])


def policy_of(ranker: Ranker) -> Catalogue:
    assert isinstance(ranker.policy, Catalogue)
    return ranker.policy


def test_a_file_without_new_items_gives_the_same_ranker(
    root: Path, data: PreparedData, tmp_path: Path
) -> None:
    found = refresh(root / "one", newcomers().head(2), tmp_path / "same")
    assert (found.new, found.known) == (0, 2)
    before, now = Ranker.load(root / "one"), Ranker.load(tmp_path / "same")
    assert now.card == before.card
    weights = before.policy.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in now.policy.state_dict().items())
    assert len(now.transform.items.vocab) == len(before.transform.items.vocab)


def test_nothing_of_old_items_changes_with_the_clusters_kept(
    root: Path, data: PreparedData, tmp_path: Path
) -> None:
    found = refresh(root / "one", newcomers(), tmp_path / "kept", keep_clusters=True)
    assert (found.new, found.known) == (30, 2)
    before, now = Ranker.load(root / "one"), Ranker.load(tmp_path / "kept")
    for split in ("train", "test"):
        batch = data.split(split).batch(slice(0, 40))
        old, new = before.rank_batch(batch), now.rank_batch(batch)
        assert torch.equal(old.order_BL, new.order_BL)
        assert torch.equal(old.score_BN, new.score_BN)
        assert before.steps is not None
        assert now.steps is not None
        for a, b in zip(before.steps(batch), now.steps(batch), strict=True):
            assert torch.equal(a, b)
    first, second = policy_of(before).model.items, policy_of(now).model.items
    size = len(first.space_IV)
    for name, table in first.named_buffers(recurse=False):
        assert torch.equal(table, second.get_buffer(name)[:size]), name
    assert policy_of(now).config.clustered == 0


def test_new_items_have_a_path_a_place_and_are_found(root: Path, data: PreparedData, tmp_path: Path) -> None:
    refresh(root / "one", newcomers(), tmp_path / "out")
    now = Ranker.load(tmp_path / "out")
    items, vocab = policy_of(now).model.items, now.transform.items.vocab
    new = torch.from_numpy(vocab.encode(pl.Series([f"new {place}" for place in range(30)]))).long()
    assert (new >= items.trained).all()
    assert items.catalogue_I[new].tolist() == [True] * 29 + [False]  # the last one is content
    assert (items.codes_IS[new[:29]] >= 0).all()
    assert (items.codes_IS[new[29]] == -1).all()
    real_IS = items.codes_IS[items.catalogue_I]
    assert len(real_IS.unique(dim=0)) == len(real_IS)
    assert now.retriever is not None
    found = now.retriever(data.split("test").batch(slice(0, 8)), len(items.catalogue()))
    assert set(new[:29].tolist()) <= set(found.items_BK[0].tolist())
    requests = pl.read_parquet(root / "data" / "examples.parquet").head(1)
    asked = requests.with_columns(candidates=pl.lit(pl.Series([["new 0", "new 1", "strange"]])))
    score = dict(now.rank(asked).select("item_id", "score").iter_rows())
    assert len({score[name] for name in score}) == 3
    old = dict(Ranker.load(root / "one").rank(asked).select("item_id", "score").iter_rows())
    assert old["new 0"] == old["new 1"] == old["strange"]  # unknown to it


def test_a_new_item_lies_with_its_like(root: Path, data: PreparedData, tmp_path: Path) -> None:
    """Twins of items that training never saw, which have their place by the same rule."""
    table = events_log().items
    assert table is not None
    before = Ranker.load(root / "one")
    model = policy_of(before).model
    ids = before.transform.items.vocab.decode(np.arange(model.items.trained, len(model.items.space_IV)))
    untrained = table.filter(~pl.col("organic"), pl.col("item_id").is_in(ids.to_list()))
    assert untrained.height > 5
    twins = untrained.with_columns(item_id="twin " + pl.col("item_id"))
    now = refresh(root / "one", twins, tmp_path / "out").ranker
    items, vocab = policy_of(now).model.items, now.transform.items.vocab
    old, new = (torch.from_numpy(vocab.encode(frame["item_id"])).long() for frame in (untrained, twins))
    torch.testing.assert_close(items.space_IV[new], items.space_IV[old], atol=1e-4, rtol=0)
    assert torch.equal(items.numeric_IF[new], items.numeric_IF[old])
    assert (items.codes_IS[new, 0] == items.codes_IS[old, 0]).float().mean() > 0.9
    assert (items.codes_IS[new] != items.codes_IS[old]).any(1).all()


def test_clusters_take_in_each_item_once(root: Path, tmp_path: Path) -> None:
    before = policy_of(Ranker.load(root / "one")).model.target
    assert before is not None
    both, twice = newcomers(), tmp_path / "first"
    refresh(root / "one", both.head(12), twice)
    refresh(twice, both, tmp_path / "second")
    refresh(tmp_path / "second", both, tmp_path / "third")
    targets = [policy_of(Ranker.load(tmp_path / name)).model.target for name in ("first", "second", "third")]
    weight = [int(target.weight_J.sum()) for target in targets if target is not None]
    items = policy_of(Ranker.load(root / "one")).model.items
    untrained = int(items.catalogue_I[items.trained :].sum())
    assert weight[0] == int(before.weight_J.sum()) + untrained + 10
    assert weight[1] == weight[2] == weight[0] + 19
    assert not torch.equal(before.centre_JD, targets[0].centre_JD)  # type: ignore[union-attr]


def test_clusters_alone(root: Path) -> None:
    ranker = Ranker.load(root / "one")
    centres = policy_of(ranker).model.target.centre_JD.clone()  # type: ignore[union-attr]
    refreshing.refresh_clusters(ranker)
    assert not torch.equal(policy_of(ranker).model.target.centre_JD, centres)  # type: ignore[union-attr]
    moved = policy_of(ranker).model.target.centre_JD.clone()  # type: ignore[union-attr]
    assert ranker.card.policy_config["clustered"] == ranker.card.manifest.schema.items
    refreshing.refresh_clusters(ranker)
    assert torch.equal(policy_of(ranker).model.target.centre_JD, moved)  # type: ignore[union-attr]


def test_a_model_of_paths_is_refreshed_too(root: Path, data: PreparedData, tmp_path: Path) -> None:
    refresh(root / "hstu", newcomers(), tmp_path / "out")
    before, now = Ranker.load(root / "hstu"), Ranker.load(tmp_path / "out")
    size = before.card.manifest.schema.items
    old, new = policy_of(before).model.items, policy_of(now).model.items
    assert torch.equal(old.codes_IS, new.codes_IS[:size])
    assert now.retriever is not None
    found = now.retriever(data.split("test").batch(slice(0, 8)), 300)
    assert (found.items_BK >= size).any()
    assert now.card.manifest.fingerprint != before.card.manifest.fingerprint


def test_popularity_of_a_new_item_is_none(root: Path, tmp_path: Path) -> None:
    """catalogue-v1 has how often an item was wanted; a new one was wanted as often as one that training never saw."""
    now = refresh(root / "one", newcomers(), tmp_path / "out").ranker
    table = now.transform.items
    column = table.numeric_names.index("log_popularity")
    assert table.table.numeric[-1, column] == table.table.numeric[table.trained, column] < 0


def test_places_are_extended_by_the_same_map() -> None:
    rng = np.random.default_rng(0)
    numeric = rng.standard_normal((120, 3)).astype(np.float32)
    category = rng.integers(0, 4, (120, 1)).astype(np.int32)
    vector = rng.standard_normal((120, 5)).astype(np.float32)
    numeric[0] = category[0] = vector[0] = 0
    vector[60:] = vector[3] = 0  # one of the trained ones has none either
    lasting = np.array([True, False, True])
    space_IV, _ = item_space(Entities(numeric, category, vector, np.zeros(120, bool)), 60, lasting)
    again = np.concatenate([numeric, numeric[3:4], numeric[80:90], numeric[:1] + 9])
    codes = np.concatenate([category, category[3:4], category[80:90], category[:1] + 9])
    more = Entities(again, codes, np.zeros((132, 0), np.float32), np.zeros(132, bool))
    found = extend_space(space_IV, more, lasting)
    np.testing.assert_allclose(found[0], space_IV[3], atol=1e-5)
    np.testing.assert_allclose(found[1:11], space_IV[80:90], atol=1e-5)
    assert np.isfinite(found[11]).all()


def test_centres_are_found_again_from_the_paths() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((400, 4)).astype(np.float32)
    real = np.ones(400, bool)
    real[0] = False
    some = real & (np.arange(400) < 60)
    ids = semantic_ids.fit(SemanticIdConfig(levels=3, codes=8), vectors, some, 0)
    again = semantic_ids.from_codes(vectors, ids.codes_IS, ids.real_I, 8)
    np.testing.assert_allclose(again.centres_SKD[:2], ids.centres_SKD[:2], atol=1e-4)
    few = semantic_ids.from_codes(
        vectors[:5], np.array([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]), np.ones(5, bool), 4
    )
    more = few.assign(np.concatenate([vectors[:5], vectors[100:103]]), np.ones(8, bool))
    assert set(more.codes_IS[5:, 0]) <= {0, 1}  # no code that nothing was learnt of


def test_what_cannot_be_refreshed_is_refused(root: Path, data: PreparedData, tmp_path: Path) -> None:
    sw.fit("popularity", data, out=tmp_path / "popularity")
    with pytest.raises(RunError, match="does not know the catalogue by features"):
        refresh(tmp_path / "popularity", newcomers(), tmp_path / "out")
    with pytest.raises(DataError, match="item_id is missing"):
        refresh(root / "one", newcomers().rename({"item_id": "item"}), tmp_path / "out")
    with pytest.raises(DataError, match="has more than one row"):
        refresh(root / "one", pl.concat([newcomers(), newcomers()]), tmp_path / "out")
    strange = newcomers().with_columns(pl.lit("tall").alias("quality"))
    with pytest.raises(DataError, match="quality has 'tall', but the ranker reads a number there"):
        refresh(root / "one", strange, tmp_path / "out")
    nobody = pl.DataFrame(schema={"item_id": pl.String, "quality": pl.String})  # a file of a header alone
    assert refresh(root / "one", nobody, tmp_path / "same").new == 0
    shutil.rmtree(tmp_path / "same")
    with pytest.raises(DataError, match="already there and not empty"):
        refresh(root / "one", newcomers(), root / "hstu")
    assert [path.name for path in tmp_path.iterdir()] == ["popularity"]
