"""Rank-binned negatives: distinct, from the exposed item's bin, and evenly likely."""

import numpy as np
import pytest

from slatewise.candidates.rank_bins import Bins, _draw_distinct, _join_scarce, matched_negatives

ITEMS = 600


def draw(
    bins: Bins, exposed: np.ndarray, number: int = 44, seed: int = 0, popularity: np.ndarray | None = None
) -> np.ndarray:
    """Item i has rank i; all but the exposed may be drawn."""
    score = np.tile(-np.arange(ITEMS, dtype=np.float32), (len(exposed), 1))
    may_draw = np.ones(score.shape, dtype=bool)
    np.put_along_axis(may_draw, exposed, False, axis=1)
    popularity = np.zeros(ITEMS, np.float32) if popularity is None else popularity
    return matched_negatives(bins, score, may_draw, exposed, popularity, number, np.random.default_rng(seed))


def spread(rows: int = 400, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(ITEMS)[:6] for _ in range(rows)])


def test_edges_grow_to_the_widest() -> None:
    widths = np.diff(Bins().edges(3000))
    assert widths[0] == 24
    assert widths[1] == 28
    assert widths.max() == 160
    assert (np.diff(widths) >= 0).all()


def test_pieces_refine_the_bins() -> None:
    bins = Bins(popularity=20)
    edges = bins.edges(3000)
    pieces = bins.pieces(edges)
    assert set(edges) <= set(pieces)
    assert np.diff(pieces).min() >= 10
    assert np.diff(pieces).max() <= 30


@pytest.mark.parametrize("popularity", [0, 20])
def test_negatives_are_distinct_and_never_exposed(popularity: int) -> None:
    exposed = spread()
    drawn = draw(Bins(popularity=popularity), exposed, popularity=np.random.default_rng(0).random(ITEMS))
    both = np.sort(np.concatenate([exposed, drawn], axis=1), axis=1)
    assert drawn.shape == (400, 44)
    assert (drawn >= 0).all()
    assert (np.diff(both, axis=1) > 0).all()


def test_each_exposed_item_brings_seven_or_eight_near_it() -> None:
    """With bins of one width and far-apart exposed items, a negative is within a bin's width of its owner."""
    exposed = np.tile(np.arange(6) * 100 + 40, (200, 1))
    distance = np.abs(draw(Bins(first=24, growth=1.0, last=24), exposed)[:, :, None] - exposed[:, None, :])
    owner = distance.argmin(axis=2)
    assert distance.min(axis=2).max() < 24
    brought = np.stack([(owner == e).sum(axis=1) for e in range(6)], axis=1)
    assert set(np.unique(brought)) == {7, 8}
    assert (brought.sum(axis=1) == 44).all()


def test_an_exposed_item_stands_anywhere_in_its_bin() -> None:
    """The leak of a centred window: there about half of an item's negatives always stand above it.

    Here the share above must be uniform on 0 … 1: mean 1/2, standard deviation 0.29 (plus what 7 draws add).
    """
    drawn = draw(Bins(first=24, growth=1.0, last=24), np.tile(np.arange(6) * 100 + 40, (3000, 1)))
    above = ((drawn > 240 - 24) & (drawn < 240)).sum(axis=1)
    below = ((drawn > 240) & (drawn < 240 + 24)).sum(axis=1)
    share = above / (above + below)
    assert set(np.unique(above + below)) == {7, 8}
    assert share.mean() == pytest.approx(0.5, abs=0.03)
    assert 0.29 < share.std() < 0.36
    assert (share == 0).mean() > 0.05
    assert (share == 1).mean() > 0.05


def test_crowded_bins_take_from_the_next() -> None:
    exposed = np.tile(np.arange(6), (50, 1))
    drawn = draw(Bins(), exposed)
    assert (np.sort(drawn, axis=1)[:, 0] >= 6).all()
    assert drawn.max() < 200
    last = draw(Bins(), np.tile(np.arange(ITEMS - 6, ITEMS), (50, 1)))
    assert (last < ITEMS - 6).all()
    assert last.min() > 200


def test_too_few_items_are_all_given() -> None:
    score, may_draw = np.zeros((1, 10), np.float32), np.ones((1, 10), dtype=bool)
    may_draw[0, :2] = False
    drawn = matched_negatives(
        Bins(), score, may_draw, np.array([[0, 1]]), np.zeros(10, np.float32), 12, np.random.default_rng(0)
    )
    assert sorted(drawn[0].tolist()) == [-1] * 4 + list(range(2, 10))


def test_draws_are_uniform_without_replacement() -> None:
    low, high = np.zeros((20000, 2), np.int64), np.full((20000, 2), 3)
    drawn = _draw_distinct(low, high, np.random.default_rng(0))
    share = np.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9).reshape(3, 3) / 20000
    assert (np.diag(share) == 0).all()
    np.testing.assert_allclose(share[~np.eye(3, dtype=bool)], 1 / 6, atol=0.012)


def test_scarce_bins_join_by_hand() -> None:
    supply, need = np.array([[2, 9, 9, 1], [9, 9, 9, 1]]), np.array([[5, 0, 3, 0], [0, 3, 0, 4]])
    first, last = _join_scarce(supply, need)
    assert first.tolist() == [[0, 0, 2, 3], [0, 1, 2, 2]]
    assert last.tolist() == [[1, 1, 2, 3], [0, 1, 3, 3]]
