"""Negatives drawn from the same stretch of a ranking as the positive they stand beside.

An exposed item's negatives come from its own *bin* of the ranking (all items that may be drawn and the
exposed ones, by retriever score), so that within a bin nothing tells them apart by place. Bins grow from
narrow at the top, where scores change quickly, to wide below, and start at a random offset, so that no
absolute place gives a border away. Centring a window on the exposed item would put it in the middle of its
negatives, which score geometry alone finds (AUC 75.8 on MovieLens-1M, against 52 with bins).

Shapes, besides the legend in :mod:`slatewise.types`: R requests, U places of the ranking, B bins, S =
negatives drawn.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from slatewise.candidates.retrieval import Bools, Floats, Ints
from slatewise.config import Count, Frozen, Positive


class Bins(Frozen):
    """Widths of the bins: ``first``, then ``growth`` times the one before, at most ``last``.

    ``popularity``: 0, or the width of the pieces that each bin is cut into by popularity; the negatives then
    come from the exposed item's piece.
    """

    first: Positive = 24
    growth: float = 1.15
    last: Positive = 160
    popularity: Count = 0

    def edges(self, total: int) -> Ints:
        """Borders 0 = e_0 < e_1 < … of bins that cover ``total`` places and a first bin's width more."""
        edges, width = [0], float(self.first)
        while edges[-1] < total + self.first:
            edges.append(edges[-1] + round(width))
            width = min(width * self.growth, self.last)
        return np.array(edges)

    def pieces(self, edges_B: Ints) -> Ints:
        """Borders of the pieces: each bin cut evenly, into widths as near to ``popularity`` as may be."""
        cuts = [
            np.linspace(low, high, max(1, round((high - low) / self.popularity)), endpoint=False).round()
            for low, high in pairwise(edges_B.tolist())
        ]
        return np.append(np.concatenate(cuts), edges_B[-1]).astype(np.int64)


def matched_negatives(
    bins: Bins,
    score_RI: Floats,
    may_draw_RI: Bools,
    exposed_RE: Ints,
    popularity_I: Floats,
    number: int,
    rng: np.random.Generator,
) -> Ints:
    """``number`` distinct items for each request, evenly shared among its exposed items, each from the item's
    own bin.

    Args:
        bins: widths of the bins.
        score_RI: retriever scores; the ranking is from high to low.
        may_draw_RI: items that may be negatives; must be False for exposed items.
        exposed_RE: the exposed items.
        popularity_I: for ``bins.popularity``.
        number: S. A request with fewer items to draw from gets them all.
        rng: where chance comes from.

    Returns:
        (R, S) items, -1 behind the end.
    """
    order_RU, place_RE = _ranking(score_RI, may_draw_RI, exposed_RE)
    count_R = may_draw_RI.sum(axis=1)
    edges_B, offset_R = bins.edges(score_RI.shape[1]), rng.integers(bins.first, size=len(score_RI))
    if bins.popularity:
        _sort_bins(edges_B, offset_R, order_RU, place_RE, count_R, exposed_RE, popularity_I)
        edges_B = bins.pieces(edges_B)
    owner_RS = _owners(len(score_RI), exposed_RE.shape[1], number, rng)
    low_RE, high_RE = _ranges(edges_B, offset_R, place_RE, count_R, owner_RS)
    low_RS, high_RS = (np.take_along_axis(x_RE, owner_RS, axis=1) for x_RE in (low_RE, high_RE))
    scarce_R = count_R < number
    low_RS[scarce_R], high_RS[scarce_R] = np.arange(number), np.arange(number) + 1
    drawn_RS = _draw_distinct(low_RS, high_RS, rng)
    found_RS = np.take_along_axis(order_RU, np.minimum(drawn_RS, order_RU.shape[1] - 1), axis=1)
    return np.where(drawn_RS < count_R[:, None], found_RS, -1)


def _ranking(score_RI: Floats, may_draw_RI: Bools, exposed_RE: Ints) -> tuple[Ints, Ints]:
    """Drawable items from high to low, others behind them; and how many drawable stand above each exposed."""
    score_RU = np.where(may_draw_RI, score_RI, np.float32(-np.inf))
    order_RU = np.argsort(-score_RU, axis=1)
    own_RE = np.take_along_axis(score_RI, exposed_RE, axis=1)
    place_RE = np.stack([(score_RU > own_R[:, None]).sum(axis=1) for own_R in own_RE.T], axis=1)
    return order_RU, place_RE


def _merged(place_RE: Ints) -> Ints:
    """Place of each exposed item in the ranking of drawable and exposed items together."""
    before_RE = np.argsort(np.argsort(place_RE, axis=1, kind="stable"), axis=1)
    return place_RE + before_RE


def _sort_bins(
    edges_B: Ints,
    offset_R: Ints,
    order_RU: Ints,
    place_RE: Ints,
    count_R: Ints,
    exposed_RE: Ints,
    popularity_I: Floats,
) -> None:
    """Sort every bin by popularity, in place; exposed items move within their bins as well."""
    items = len(popularity_I)
    by_popularity_I = np.argsort(-popularity_I, kind="stable")
    rank_I = np.argsort(by_popularity_I)
    bin_U = np.searchsorted(edges_B, np.arange(edges_B[-1]), side="right") - 1
    place_U = np.arange(order_RU.shape[1])
    merged_RU = place_U + sum((place_U >= place_R[:, None]).astype(np.int64) for place_R in place_RE.T)
    key_RU = bin_U[merged_RU + offset_R[:, None]] * items + rank_I[order_RU]
    key_RU[place_U >= count_R[:, None]] = np.iinfo(np.int64).max
    key_RE = bin_U[_merged(place_RE) + offset_R[:, None]] * items + rank_I[exposed_RE]
    key_RU.sort(axis=1)
    place_RE[:] = np.stack([(key_RU < key_R[:, None]).sum(axis=1) for key_R in key_RE.T], axis=1)
    order_RU[:] = by_popularity_I[key_RU % items]


def _owners(requests: int, exposed: int, number: int, rng: np.random.Generator) -> Ints:
    """Which exposed item each of the S negatives belongs to; chance decides who gets one more."""
    turn_RE = rng.permuted(np.tile(np.arange(exposed), (requests, 1)), axis=1)
    return turn_RE[:, np.arange(number) % exposed]


def _ranges(
    edges_B: Ints, offset_R: Ints, place_RE: Ints, count_R: Ints, owner_RS: Ints
) -> tuple[Ints, Ints]:
    """First and last-but-one place, among the drawable items, of each exposed item's bin."""
    exposed = place_RE.shape[1]
    edges_RB = np.clip(edges_B - offset_R[:, None], 0, (count_R + exposed)[:, None])
    in_bin_REB = _merged(place_RE)[:, :, None] >= edges_RB[:, None, :]
    bin_RE = in_bin_REB.sum(axis=2) - 1
    here_REB = bin_RE[:, :, None] == np.arange(edges_RB.shape[1] - 1)
    edges_RB[:, 1:] -= here_REB.sum(axis=1).cumsum(
        axis=1
    )  # from places among all to places among the drawable
    need_RE = np.stack([(owner_RS == e).sum(axis=1) for e in range(exposed)], axis=1)
    need_RB = (here_REB * need_RE[:, :, None]).sum(axis=1)
    first_RB, last_RB = _join_scarce(np.diff(edges_RB, axis=1), need_RB)
    low_RE = np.take_along_axis(edges_RB, np.take_along_axis(first_RB, bin_RE, axis=1), axis=1)
    high_RE = np.take_along_axis(edges_RB, np.take_along_axis(last_RB, bin_RE, axis=1) + 1, axis=1)
    return low_RE, high_RE


def _join_scarce(supply_RB: Ints, need_RB: Ints) -> tuple[Ints, Ints]:
    """Join bins that need more than they have to the next one below, and at the end to the one above.

    Returns:
        First and last bin of the group that each bin belongs to.
    """
    supply_RB, need_RB = supply_RB.copy(), need_RB.copy()
    number = supply_RB.shape[1]
    joined_RB = np.zeros((len(supply_RB), number + 1), dtype=bool)  # joined_RB[:, b]: bins b-1 and b are one
    for b, to in [*((b, b + 1) for b in range(number - 1)), *((b, b - 1) for b in range(number - 1, 0, -1))]:
        scarce_R = need_RB[:, b] > supply_RB[:, b]
        joined_RB[scarce_R, max(b, to)] = True
        for amount_RB in (supply_RB, need_RB):
            amount_RB[scarce_R, to] += amount_RB[scarce_R, b]
            amount_RB[scarce_R, b] = 0
    place_B = np.arange(number)
    first_RB = np.maximum.accumulate(np.where(joined_RB[:, :-1], 0, place_B), axis=1)
    last_RB = np.minimum.accumulate(np.where(joined_RB[:, 1:], number, place_B)[:, ::-1], axis=1)[:, ::-1]
    return first_RB, last_RB


def _draw_distinct(low_RS: Ints, high_RS: Ints, rng: np.random.Generator) -> Ints:
    """One whole number from each range ``low <= x < high``, all of a row distinct, uniformly among the
    possibilities.

    Repeated draws are drawn again while all others stand, which is drawing one after the other without
    replacement. Ranges of one row must be equal or disjoint, and none asked for more numbers than it has.
    """
    drawn_RS = np.zeros_like(low_RS)
    open_RS = np.ones(low_RS.shape, dtype=bool)
    rows_R = np.arange(len(low_RS))
    while len(rows_R):
        low, high, again = low_RS[rows_R], high_RS[rows_R], open_RS[rows_R]
        fresh = low + (rng.random(low.shape) * (high - low)).astype(np.int64)
        drawn = np.where(again, fresh, drawn_RS[rows_R])
        order = np.argsort(drawn * 2 + again, axis=1)  # of equal numbers, one that stands comes first
        ranked = np.take_along_axis(drawn, order, axis=1)
        repeated = np.zeros_like(again)
        np.put_along_axis(repeated, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
        drawn_RS[rows_R], open_RS[rows_R] = drawn, repeated
        rows_R = rows_R[repeated.any(axis=1)]
    return drawn_RS
