"""k-means centres: small cases by hand, numbers that stay, and refreshing with nothing new."""

from __future__ import annotations

import numpy as np
import pytest

from slatewise.candidates.clusters import ROWS, Clusters, distances, fit, match, nearest, refresh
from slatewise.errors import ConfigError, DataError


def vectors(number: int = 300, width: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(number, width)).astype(np.float32)


def test_two_heaps_have_their_means_as_centres() -> None:
    heaps_nD = np.array([[0, 0], [0, 2], [10, 10], [12, 10], [11, 13]], dtype=np.float32)
    found = fit(heaps_nD, 2, seed=0)
    order_K = found.centres_KD[:, 0].argsort()
    assert np.allclose(found.centres_KD[order_K], [[0, 1], [11, 11]])
    assert found.weight_K[order_K].tolist() == [2, 3]


def test_fewer_distinct_vectors_than_centres_repeat_in_turn() -> None:
    twice_nD = np.array([[3.0], [1.0], [3.0]], dtype=np.float32)
    found = fit(twice_nD, 5, seed=0)
    assert found.centres_KD[:, 0].tolist() == [1, 3, 1, 3, 1]
    assert found.weight_K.tolist() == [1, 2, 0, 0, 0]  # of equally near centres the first


def test_the_same_seed_gives_the_same_bits_and_samples_alike() -> None:
    many_nD = vectors(ROWS + 500, 2)
    once, again = fit(many_nD, 4, seed=3), fit(many_nD, 4, seed=3)
    assert np.array_equal(once.centres_KD, again.centres_KD)
    assert once.weight_K.sum() == len(many_nD)  # all count, though not all were read


def test_started_from_old_centres_the_numbers_stay() -> None:
    vectors_nD = vectors()
    old = fit(vectors_nD, 8, seed=0)
    turned_KD = old.centres_KD[::-1]
    for start_KD in (old.centres_KD, turned_KD):
        moved = fit(vectors_nD + np.float32(0.01), 8, seed=1, start=start_KD)
        assert np.abs(moved.centres_KD - start_KD).max() < 0.2
    few = fit(vectors_nD[:2], 2, seed=0, start=vectors_nD[:2][::-1])
    assert np.array_equal(few.centres_KD, vectors_nD[:2][::-1])


def test_match_undoes_a_permutation() -> None:
    old_KD, order_K = vectors(8), np.random.default_rng(1).permutation(8)
    assert np.array_equal(old_KD[order_K][match(old_KD, old_KD[order_K])], old_KD)


def test_refreshing_with_nothing_new_changes_nothing() -> None:
    old = fit(vectors(), 8, seed=0)
    new = refresh(old, np.empty((0, 6), dtype=np.float32))
    assert np.array_equal(new.centres_KD, old.centres_KD)
    assert np.array_equal(new.weight_K, old.weight_K)


def test_refresh_by_hand() -> None:
    old = Clusters(np.array([[0.0], [10.0], [99.0]], dtype=np.float32), np.array([2, 1, 1]))
    new = refresh(old, np.array([[1.0], [13.0]], dtype=np.float32))
    assert np.allclose(new.centres_KD[:, 0], [1 / 3, 11.5, 99])
    assert new.weight_K.tolist() == [3, 2, 1]
    assert old.centres_KD[:, 0].tolist() == [0, 10, 99]  # the old ones are as they were


def test_a_centre_is_the_mean_of_all_it_stood_for_however_they_came() -> None:
    all_nD = vectors(200)
    far_nD = all_nD + 100 * (np.arange(200) % 2)[:, None].astype(np.float32)  # two heaps, never in doubt
    at_once, later = fit(far_nD, 2, seed=0), fit(far_nD[:120], 2, seed=0)
    later = refresh(refresh(later, far_nD[120:150]), far_nD[150:])
    order_K = match(at_once.centres_KD, later.centres_KD)
    assert np.allclose(later.centres_KD[order_K], at_once.centres_KD, atol=1e-4)
    assert np.array_equal(later.weight_K[order_K], at_once.weight_K)


def test_nearest_reads_distances() -> None:
    vectors_nD, centres_KD = vectors() + 1000, vectors(5, seed=1) + 1000
    true_nK = ((vectors_nD[:, None].astype(np.float64) - centres_KD) ** 2).sum(2)
    assert np.array_equal(nearest(vectors_nD, centres_KD), true_nK.argmin(1))
    gap_nK = distances(vectors_nD, centres_KD) - true_nK
    assert np.abs(gap_nK - gap_nK[:, :1]).max() < 1e-2  # along a row they differ by one number


def test_what_cannot_be_clustered_is_told() -> None:
    broken_nD = vectors()
    broken_nD[4, 1] = np.nan
    with pytest.raises(DataError, match="item vector 4 has a number that is not finite"):
        fit(broken_nD, 3, seed=0)
    with pytest.raises(DataError, match="not finite"):
        refresh(fit(vectors(), 3, seed=0), broken_nD)
    with pytest.raises(DataError, match="no item vectors"):
        fit(vectors()[:0], 3, seed=0)
    with pytest.raises(ConfigError, match="0 centres"):
        fit(vectors(), 0, seed=0)
    with pytest.raises(ConfigError, match=r"\(2, 6\); \(3, 6\)|shape \(2, 6\)"):
        fit(vectors(), 3, seed=0, start=vectors()[:2])
