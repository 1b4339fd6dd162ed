"""Where a candidate's retriever score stands among the scores of its request."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GEOMETRY = ("score_z", "score_rank", "score_gap_up", "score_gap_down")
_CLIP = 8.0


def score_geometry(score_BN: NDArray[np.float64], mask_BN: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(B, N, 4) place of each score in its request, in the order of :data:`GEOMETRY`.

    ``score_z``: z-score within the request. ``score_rank``: share of the candidates with a higher score, 0 =
    best. ``score_gap_up`` / ``score_gap_down``: distance to the next higher / lower score in standard
    deviations of the request's scores, 0 at the ends. Equal scores get equal features, so that a permutation
    of the candidates only permutes the rows. Everything is 0 for padding and for missing (NaN) scores, finite
    for one or for equal scores.
    """
    real_BN = mask_BN & np.isfinite(score_BN)
    count_B1 = real_BN.sum(axis=1, keepdims=True)
    order_BN = np.argsort(np.where(real_BN, -score_BN, np.inf), axis=1, kind="stable")
    inside_BN = np.arange(score_BN.shape[1]) < count_B1
    sorted_BN = np.where(inside_BN, np.take_along_axis(score_BN, order_BN, axis=1).clip(-1e100, 1e100), 0.0)
    features = _sorted_geometry(sorted_BN, inside_BN, np.maximum(count_B1, 1))
    out = np.zeros((*score_BN.shape, len(GEOMETRY)), np.float32)
    np.put_along_axis(out, order_BN[:, :, None], features.clip(-_CLIP, _CLIP).astype(np.float32), axis=1)
    return out


def _sorted_geometry(
    s_BN: NDArray[np.float64], inside_BN: NDArray[np.bool_], count_B1: NDArray[np.int64]
) -> NDArray[np.float64]:
    # Sums run in sorted order and one after the other: neither the order nor the padding changes a bit.
    centred_BN = np.where(inside_BN, s_BN - s_BN.cumsum(axis=1)[:, -1:] / count_B1, 0.0)
    std_B1 = np.sqrt((centred_BN**2).cumsum(axis=1)[:, -1:] / count_B1)
    flat_B1 = std_B1 <= 1e-9 * np.abs(s_BN).max(axis=1, keepdims=True)
    unit_B1 = np.where(flat_B1, 0.0, 1.0 / np.where(flat_B1, 1.0, std_B1))
    first_BN, last_BN = _runs(s_BN, inside_BN)
    above_BN = np.take_along_axis(s_BN, np.maximum(first_BN - 1, 0), axis=1)
    below_BN = np.take_along_axis(s_BN, np.minimum(last_BN + 1, s_BN.shape[1] - 1), axis=1)
    gap_up_BN = np.where(first_BN > 0, above_BN - s_BN, 0.0) * unit_B1
    gap_down_BN = np.where(last_BN + 1 < count_B1, s_BN - below_BN, 0.0) * unit_B1
    features = np.stack([centred_BN * unit_B1, first_BN / count_B1, gap_up_BN, gap_down_BN], axis=-1)
    return np.where(inside_BN[:, :, None], features, 0.0)


def _runs(
    s_BN: NDArray[np.float64], inside_BN: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last place of the run of equal scores that each place of the sorted rows belongs to."""
    place_N = np.arange(s_BN.shape[1])
    change = (s_BN[:, 1:] != s_BN[:, :-1]) | (inside_BN[:, 1:] != inside_BN[:, :-1])
    edge = np.ones((len(s_BN), 1), bool)
    starts, ends = np.hstack([edge, change]), np.hstack([change, edge])
    first_BN = np.maximum.accumulate(np.where(starts, place_N, 0), axis=1)
    last_BN = np.minimum.accumulate(np.where(ends, place_N, s_BN.shape[1])[:, ::-1], axis=1)[:, ::-1]
    return first_BN, last_BN
