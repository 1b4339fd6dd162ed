"""How well predicted list values fit observed ones: R-AUC, RMSE, PCOC (DeGRe §5.1.3), and the calibration curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slatewise.config import Frozen

Floats = NDArray[np.float64]


def r_auc(predicted: Floats, observed: Floats) -> float:
    """Share of pairs with different observed values that the prediction puts in the same order (DeGRe Eq. 15).

    A pair whose predictions tie counts as wrong, as the equation's strict inequality has it. O(n log n),
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
    """How many i < j have rank[i] < rank[j], bit by bit from the highest: a pair is told apart by the first bit in which
    its ranks differ. At each bit, ranks that agree so far stand together, in their order: a radix sort on the way."""
    count, total, place = len(rank), 0, np.arange(len(rank))
    start, end = np.zeros(count, np.int64), np.full(count, count)  # of each rank's group
    for bit in reversed(range(int(rank.max(initial=0)).bit_length())):
        one = (rank >> bit) & 1 == 1
        zeros = np.concatenate([[0], np.cumsum(~one)])
        earlier, all_zeros = zeros[:-1] - zeros[start], zeros[end] - zeros[start]
        total += int(earlier[one].sum())
        goes = start + np.where(one, all_zeros + (place - start - earlier), earlier)
        middle = start + all_zeros
        columns = rank, np.where(one, middle, start), np.where(one, end, middle)
        rank, start, end = (np.empty_like(column) for column in columns)
        for new, column in zip((rank, start, end), columns, strict=True):
            new[goes] = column
    return total


def rmse(predicted: Floats, observed: Floats) -> float:
    """Root mean squared error, in units of the value; NaN of nothing."""
    return float(np.sqrt(np.mean((predicted - observed) ** 2))) if len(observed) else float("nan")


def pcoc(predicted: Floats, observed: Floats) -> float:
    """Predicted mean over observed mean; 1 is calibrated. NaN where nothing was observed."""
    mean = float(np.mean(observed)) if len(observed) else 0.0
    return float(np.mean(predicted)) / mean if mean else float("nan")


class CalibrationBin(Frozen):
    """Lists whose predictions are neighbours: how many, what was predicted and observed in the mean, and the standard
    error of the observed mean (NaN for a single list)."""

    lists: int
    predicted: float
    observed: float
    error: float


def calibration(predicted: Floats, observed: Floats, bins: int = 10) -> list[CalibrationBin]:
    """The calibration curve: ``bins`` groups of (nearly) equal size by rising prediction; fewer where lists are few.

    Lists with the same prediction fall into neighbouring bins by chance of their order, if they are too many for one.
    """
    order = np.argsort(predicted, kind="stable")
    groups = [rows for rows in np.array_split(order, bins) if len(rows)]
    return [
        CalibrationBin(
            lists=len(rows),
            predicted=float(predicted[rows].mean()),
            observed=float(observed[rows].mean()),
            error=float(observed[rows].std(ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else float("nan"),
        )
        for rows in groups
    ]
