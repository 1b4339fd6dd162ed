"""How well predicted list values fit observed ones: R-AUC, RMSE, PCOC (DeGRe §5.1.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def r_auc(predicted: Floats, observed: Floats) -> float:
    """Share of pairs with different observed values that the prediction puts in the same order (DeGRe Eq. 15).

    A pair whose predictions tie counts as wrong, as the equation's strict inequality has it. O(n log² n),
    vectorised. NaN where all observed values are equal.
    """
    order = np.lexsort(
        (-predicted, observed)
    )  # equal observations stand with falling predictions: no pair counts
    rank = np.unique(predicted, return_inverse=True)[1][order]
    ties = np.unique(observed, return_counts=True)[1]
    pairs = len(observed) * (len(observed) - 1) // 2 - int((ties * (ties - 1) // 2).sum())
    return _ascents(rank) / pairs if pairs else float("nan")


def _ascents(rank: NDArray[np.int64]) -> int:
    """How many i < j have rank[i] < rank[j]: merge sort's counting, each level in one vectorised pass."""
    count, total, place = len(rank), 0, np.arange(len(rank))
    width, base = 1, int(rank.max(initial=0)) + 1
    while width < count:
        block, left = place // (2 * width), (place // width) % 2 == 0
        earlier = np.sort(block[left] * base + rank[left])
        key = block[~left] * base
        total += int((np.searchsorted(earlier, key + rank[~left]) - np.searchsorted(earlier, key)).sum())
        width *= 2
    return total


def rmse(predicted: Floats, observed: Floats) -> float:
    """Root mean squared error, in units of the value."""
    return float(np.sqrt(np.mean((predicted - observed) ** 2)))


def pcoc(predicted: Floats, observed: Floats) -> float:
    """Predicted mean over observed mean; 1 is calibrated."""
    mean = float(np.mean(observed))
    return float(np.mean(predicted)) / mean if mean else float("nan")
