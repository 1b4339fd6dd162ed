"""Semantic ids: a path for every item, no two alike, that never changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slatewise.candidates.free_paths import descend
from slatewise.candidates.semantic_ids import SemanticIdConfig, SemanticIds, fit
from slatewise.errors import ConfigError, DataError
from slatewise.tensors import load_tensors, save_tensors

SMALL = SemanticIdConfig(levels=3, codes=8)


def make_vectors(number: int = 400, width: int = 5, seed: int = 0, distinct: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors_ID = rng.normal(size=(number, width)).astype(np.float32)
    return vectors_ID[rng.integers(min(distinct, number), size=number)] if distinct else vectors_ID


def but_first(number: int = 400) -> np.ndarray:
    return np.arange(number) > 0


def unique_paths(ids: SemanticIds) -> bool:
    real_nS = ids.codes_IS[ids.real_I]
    return len(np.unique(real_nS, axis=0)) == len(real_nS) and not ids.codes_IS[~ids.real_I].any()


def test_four_numbers_by_hand() -> None:
    """Centres 0.5 and 10.5, then -0.5 and 0.5: every number is exactly one path."""
    vectors_ID = np.array([[7.0], [0.0], [1.0], [10.0], [11.0]], dtype=np.float32)
    ids = fit(SemanticIdConfig(levels=2, codes=2), vectors_ID, but_first(5), seed=0)
    low, high = (int(ids.centres_SKD[0, :, 0].argsort()[i]) for i in (0, 1))
    down, up = (int(ids.centres_SKD[1, :, 0].argsort()[i]) for i in (0, 1))
    assert ids.codes_IS.tolist() == [[0, 0], [low, down], [low, up], [high, down], [high, up]]
    report = ids.report(vectors_ID)
    assert report["collision_rate"] == report["moved"] == 0
    assert report["error"] == pytest.approx(0, abs=1e-6)
    assert report["use_1"] == report["use_2"] == 1
    assert report["items"] == 4


def test_the_nearest_keeps_the_path_and_the_other_moves_to_the_nearest_free() -> None:
    """Centres at 0, 10 and 20 (one level): 1 and 2 both want 0, and 10 is the next for 2. Then 20 is all that is left."""
    centres_SKD = np.array([[[0.0], [10.0], [20.0]]], dtype=np.float32)
    ids = SemanticIds(np.zeros((2, 1), dtype=np.int64), np.zeros(2, dtype=bool), centres_SKD)
    ids = ids.assign(np.array([[2.0], [1.0]], dtype=np.float32), np.ones(2, dtype=bool))
    assert ids.codes_IS[:, 0].tolist() == [1, 0]
    ids = ids.assign(np.array([[0], [0], [0.5]], dtype=np.float32), np.ones(3, dtype=bool))
    assert ids.codes_IS[:, 0].tolist() == [1, 0, 2]


def test_equal_items_go_to_copies_first() -> None:
    vectors_ID = np.array([[9.0], [1], [1], [1], [5]], dtype=np.float32)
    ids = fit(SemanticIdConfig(levels=2, codes=4), vectors_ID, but_first(5), seed=0)
    report = ids.report(vectors_ID)
    assert unique_paths(ids)
    assert report["error"] == 0
    assert (report["distinct_1"], report["distinct_2"]) == (2, 1)  # 1 and 5, then nothing left over
    assert report["collision_rate"] == pytest.approx(0.5)
    assert len(set(ids.codes_IS[1:4, 0].tolist())) == 1


@pytest.mark.parametrize("distinct", [0, 40, 1])
@pytest.mark.parametrize("number", [2, 400, 513])
def test_paths_are_unique_whatever_the_vectors(number: int, distinct: int) -> None:
    """513 rows are 512 items: as many as there are paths."""
    vectors_ID = make_vectors(number, distinct=distinct)
    ids = fit(SMALL, vectors_ID, but_first(number), seed=0)
    assert unique_paths(ids)
    assert ids.real_I.sum() == number - 1
    again = fit(SMALL, vectors_ID, but_first(number), seed=0)
    assert np.array_equal(ids.codes_IS, again.codes_IS)
    assert np.array_equal(ids.centres_SKD, again.centres_SKD)


def test_nobody_moves_without_need() -> None:
    """An item alone at its nearest path keeps it, and a prefix is left only when it is full."""
    vectors_ID = make_vectors()
    ids = fit(SMALL, vectors_ID, but_first(), seed=0)
    codes_nS = ids.codes_IS[1:]
    nearest_nS = descend(vectors_ID[1:], ids.centres_SKD, codes_nS[:0])
    _, path_n, count_u = np.unique(nearest_nS, axis=0, return_inverse=True, return_counts=True)
    alone_n = count_u[path_n.ravel()] == 1
    assert np.array_equal(codes_nS[alone_n], nearest_nS[alone_n])
    for level in (1, 2):
        left_n = (codes_nS[:, :level] != nearest_nS[:, :level]).any(1)
        room = 8 ** (3 - level)
        for prefix in np.unique(nearest_nS[left_n, :level], axis=0):
            assert (codes_nS[:, :level] == prefix).all(1).sum() == room


def test_new_items_leave_old_paths_alone() -> None:
    vectors_ID = make_vectors(500)
    old_I = (np.arange(500) % 3 > 0) & (np.arange(500) < 420)
    ids = fit(SMALL, vectors_ID[:420], old_I[:420], seed=0)
    before = ids.codes_IS.copy()
    more = ids.assign(
        vectors_ID[:460] * (1 - old_I[:460, None]), np.arange(460) > 0
    )  # old vectors are not looked at
    last = more.assign(vectors_ID, np.arange(500) > 0)
    for later in (more, last):
        assert np.array_equal(later.codes_IS[:420][old_I[:420]], before[old_I[:420]])
        assert np.array_equal(later.centres_SKD, ids.centres_SKD)
        assert unique_paths(later)
    assert np.array_equal(last.codes_IS[:460], more.codes_IS)
    assert last.real_I.sum() == 499
    same = last.assign(vectors_ID, np.zeros(500, dtype=bool))
    assert np.array_equal(same.codes_IS, last.codes_IS)


def test_saved_and_loaded_they_are_equal(tmp_path: Path) -> None:
    ids = fit(SMALL, make_vectors(), but_first(), seed=0)
    save_tensors(tmp_path / "ids.safetensors", ids.tensors(), {})
    loaded = SemanticIds.from_tensors(load_tensors(tmp_path / "ids.safetensors")[0])
    for name in ("codes_IS", "real_I", "centres_SKD"):
        assert np.array_equal(getattr(loaded, name), getattr(ids, name))
        assert getattr(loaded, name).dtype == getattr(ids, name).dtype


def test_what_cannot_be_is_told() -> None:
    vectors_ID = make_vectors()
    with pytest.raises(ConfigError, match="399 items need a path each, and 2 levels of 8 codes make 64"):
        fit(SemanticIdConfig(levels=2, codes=8), vectors_ID, but_first(), seed=0)
    with pytest.raises(ConfigError, match="below 2\\*\\*63"):
        fit(SemanticIdConfig(levels=8, codes=256), vectors_ID, but_first(), seed=0)
    with pytest.raises(DataError, match="no item vectors"):
        fit(SMALL, vectors_ID, np.zeros(400, dtype=bool), seed=0)
    ids = fit(SMALL, vectors_ID, np.arange(400) > 9, seed=0)
    with pytest.raises(DataError, match="each of the 400 items"):
        ids.assign(vectors_ID[:20], but_first(20))
    vectors_ID[5] = np.inf
    with pytest.raises(DataError, match="not finite"):
        ids.assign(vectors_ID, but_first())
