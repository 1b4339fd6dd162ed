"""The mined store: what its key depends on, resuming, what it refuses, and that it says what mining on the fly says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from batches import close, make_generator
from factories import make_data, make_schema
from slatewise import config as configs
from slatewise.config import build
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError, DataError
from slatewise.groups import store as stores
from slatewise.groups.beam_mining import MiningConfig
from slatewise.groups.store import Miner, check_store, mine_store, open_store
from slatewise.rewards.listwise import Config, Listwise

MINING = MiningConfig(width=3)


def make_miner(data: PreparedData, seed: int = 3, mining: MiningConfig = MINING, **options: Any) -> Miner:
    torch.manual_seed(seed)
    config = build(Config, {"tower": {"width": 32}, **options})
    reward = Listwise(config, data.manifest)
    with torch.no_grad():
        reward.head.out.weight.mul_(6.0)
    return Miner(reward.eval(), ("listwise", config, 1), mining, data)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    return make_data(tmp_path_factory.mktemp("data") / "made", fewest=2)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("mining", [MINING, MiningConfig(width=2, polish_rounds=1, keep="best", top_k=4)])
def test_the_store_says_what_mining_on_the_fly_says(tmp_path, data, mining) -> None:
    miner = make_miner(data, mining=mining)
    store = mine_store(tmp_path / "mined", miner, shard=20, quiet=True)
    for rows in (np.array([3, 4, 19, 20, 21, 77, 95]), np.array([50, 2, 49])):
        batch = data.split("train").batch(rows)
        kept, fresh = store(batch), miner(batch)
        assert torch.equal(kept.lists_BGL, fresh.lists_BGL)
        assert close(kept.value_BG, fresh.value_BG)
        assert close(kept.step_value_BGLN.float(), fresh.step_value_BGLN.float(), 2e-3)
        for name in ("lists_BGL", "value_BG", "step_value_BGLN"):
            assert getattr(kept, name).dtype == getattr(fresh, name).dtype


def test_mining_is_in_full_precision_whatever_is_around_it(data) -> None:
    miner, batch = make_miner(data), data.split("train").batch(slice(0, 8))
    with torch.autocast("cpu", torch.bfloat16):
        inside = miner(batch)
    outside = miner(batch)
    assert torch.equal(inside.lists_BGL, outside.lists_BGL)
    assert torch.equal(inside.value_BG, outside.value_BG)


def test_mining_goes_on_where_it_stopped_and_ends_in_the_same_bytes(tmp_path, data, monkeypatch) -> None:
    miner = make_miner(data)
    mine_store(tmp_path / "whole", miner, shard=20, quiet=True)
    written = []
    plain = stores.write_table

    def failing(path: Path, columns: Any) -> None:
        if len(written) == 2:
            path.write_bytes(b"half")
            path.with_name(".00003.arrow.dead.partial").write_bytes(b"left by a killed process")
            raise KeyboardInterrupt
        plain(path, columns)
        written.append(path)

    monkeypatch.setattr(stores, "write_table", failing)
    with pytest.raises(KeyboardInterrupt):
        mine_store(tmp_path / "stopped", miner, shard=20, quiet=True)
    with pytest.raises(DataError, match=r"has not ended \(2 of 5 files"):
        open_store(tmp_path / "stopped")
    monkeypatch.setattr(stores, "write_table", plain)
    before = (tmp_path / "stopped" / "00000.arrow").stat().st_mtime_ns
    mine_store(tmp_path / "stopped", miner, shard=20, quiet=True)
    assert (tmp_path / "stopped" / "00000.arrow").stat().st_mtime_ns == before
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) == 6


def changed_keys(data: PreparedData, tmp_path: Path) -> dict[str, Miner]:
    other_weights = make_miner(data)
    with torch.no_grad():
        other_weights.reward.head.out.bias += 1e-4
    generator = make_generator()
    with_own = replace(make_miner(data), generator=generator, own=2)
    retrained = replace(make_miner(data), generator=make_generator(sharpness=5.0), own=2)
    manifest = configs.replace(data.manifest, fingerprint="random-9")
    return {
        "weights": other_weights,
        "architecture": make_miner(data, causal=False),
        "data": make_miner(replace(data, manifest=manifest)),
        "target": make_miner(data.with_target({"click": 2.0})),
        "width": make_miner(data, mining=MiningConfig(width=4)),
        "top_k": make_miner(data, mining=MiningConfig(width=3, top_k=5)),
        "polish_rounds": make_miner(data, mining=MiningConfig(width=3, polish_rounds=1)),
        "keep": make_miner(data, mining=MiningConfig(width=3, keep="best")),
        "own lists": with_own,
        "generator": retrained,
        "more own lists": replace(with_own, own=3),
    }


def test_the_key_changes_when_anything_that_matters_changes(tmp_path, data) -> None:
    key = make_miner(data).facts().key
    assert make_miner(data).facts().key == key
    keys = {name: miner.facts().key for name, miner in changed_keys(data, tmp_path).items()}
    assert len({key, *keys.values()}) == len(keys) + 1
    assert make_miner(data).facts(requests=50).key != key
    assert configs.replace(make_miner(data).facts(), shard=7).key == key  # in how many files is no matter


def test_a_folder_of_other_lists_is_refused(tmp_path, data) -> None:
    folder = tmp_path / "mined"
    mine_store(folder, make_miner(data), requests=30, quiet=True)
    before = contents(folder)
    with pytest.raises(DataError, match="differing: evaluator"):
        mine_store(folder, make_miner(data, seed=4), requests=30, quiet=True)
    with pytest.raises(DataError, match="differing: mining, lists"):
        mine_store(folder, make_miner(data, mining=MiningConfig(width=2)), requests=30, quiet=True)
    assert contents(folder) == before
    assert json.loads(before["store.json"])["key"] == make_miner(data).facts(30).key
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file.txt").write_text("mine")
    with pytest.raises(DataError, match="not a mined store"):
        mine_store(tmp_path / "other", make_miner(data), quiet=True)
    with pytest.raises(DataError, match=r"no store\.json"):
        open_store(tmp_path / "other")
    for damaged in ("{}", "[]", "{"):
        (folder / "store.json").write_text(damaged)
        with pytest.raises(DataError, match="cannot be read"):
            open_store(folder)
    (folder / "store.json").write_bytes(before["store.json"].replace(b'"format": 2', b'"format": 1'))
    with pytest.raises(DataError, match="a store of format 1, and this version reads 2"):
        open_store(folder)
    (folder / "store.json").write_bytes(before["store.json"])
    (folder / "00000.arrow").write_bytes(b"torn")
    with pytest.raises(DataError, match="Remove this file and run the same `slatewise mine` again"):
        open_store(folder)


def test_a_store_must_fit_the_data_and_the_settings_but_may_be_of_another_evaluator(tmp_path, data) -> None:
    folder = tmp_path / "mined"
    store = mine_store(folder, make_miner(data), requests=30, quiet=True)
    check_store(store, make_miner(data, seed=4).facts(20), folder)
    with pytest.raises(DataError, match="30 requests, but 96"):
        check_store(store, make_miner(data).facts(), folder)
    with pytest.raises(ConfigError, match="width = 3, top_k = 0"):
        check_store(store, make_miner(data, mining=MiningConfig(width=2)).facts(30), folder)
    other = Miner(make_miner(data).reward, "", MINING, data.with_target({"click": 2.0}))
    with pytest.raises(DataError, match="mined for the target"):
        check_store(store, other.facts(30), folder)
    with pytest.raises(ConfigError, match="requests is -5"):
        make_miner(data).facts(-5)
    shorter = make_data(tmp_path / "shorter", make_schema(length=3))
    with pytest.raises(DataError, match="mined on other data"):
        check_store(store, make_miner(shorter).facts(30), folder)


def test_own_lists_of_a_generator_are_among_the_mined(data) -> None:
    generator = make_generator()
    miner = replace(make_miner(data), generator=generator, own=2)
    batch = data.split("train").batch(slice(0, 6))
    mined = miner(batch)
    assert mined.lists_BGL.shape[1] == 5
    best = stores.beam.decode(
        generator, batch, length=4, rng=torch.Generator(), config=stores.beam.Config(width=2)
    ).order_BL
    assert (mined.lists_BGL == best[:, None]).all(-1).any(1).all()
