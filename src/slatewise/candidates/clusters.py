"""k-means centres of a catalogue, and how they follow it.

OneRanker's fake items are the centres of all item vectors, and semantic ids are centres of what centres leave over.
A model learns to know centre number 7, so 7 has to stay where it was. Two things move centres: item vectors that
training has changed (:func:`fit` again, from the old ``start``) and items that arrived since (:func:`refresh`). Both
number the new centres after the old ones that they are nearest to, all together (the Hungarian method, Kuhn 1955).

The same seed gives the same bits: one thread. Shapes: n items, K centres, D vector width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from slatewise.candidates.retrieval import Floats, Ints
from slatewise.errors import ConfigError, DataError
from slatewise.rng import child_seed, numpy_rng

ROWS, ROWS_A_CENTRE = 16_384, 64  # vectors that Lloyd's iterations read; more move no centre by much
ITERATIONS = 50
CHUNK = 4096  # vectors compared with all centres at once, and a mini-batch of refresh


@dataclass(frozen=True)
class Clusters:
    """Centres, and how much each weighs against a vector that comes new.

    Attributes:
        centres_KD: always K of them; of fewer than K distinct vectors each is a centre, and they repeat in turn.
        weight_K: vectors whose mean the centre is; 0 for a repeated one.
    """

    centres_KD: Floats
    weight_K: Ints


def fit(vectors_nD: Floats, k: int, seed: int, *, start: Floats | None = None) -> Clusters:
    """K-means (k-means++, Lloyd) over the vectors, or over a random 16,384 of them (64 a centre if that is more).

    Args:
        start: old centres (K, D). Lloyd begins there, and centre number i stays the one that has moved the
            least from ``start[i]``, all K together: for vectors that training has moved.

    Raises:
        DataError: no vectors, or numbers that are not finite.
        ConfigError: ``k`` is below 1, or ``start`` has another number of centres.
    """
    _check(vectors_nD, k, start)
    most = max(ROWS, ROWS_A_CENTRE * k)
    sample_nD = vectors_nD
    if len(vectors_nD) > most:
        sample_nD = vectors_nD[numpy_rng(seed, "clusters").choice(len(vectors_nD), most, replace=False)]
    centres_KD = _centres(sample_nD, k, seed, start)
    if start is not None:
        centres_KD = centres_KD[match(start, centres_KD)]
    weight_K = np.bincount(nearest(vectors_nD, centres_KD), minlength=k).astype(np.int64)
    return Clusters(centres_KD, weight_K)


def _centres(sample_nD: Floats, k: int, seed: int, start: Floats | None) -> Floats:
    distinct_nD = np.unique(sample_nD, axis=0)
    if len(distinct_nD) <= k:  # sklearn would warn, and leave rounding errors for the next level to encode
        return distinct_nD[np.arange(k) % len(distinct_nD)]
    kmeans = KMeans(
        k,
        init="k-means++" if start is None else start,
        n_init=1,
        max_iter=ITERATIONS,
        random_state=child_seed(seed, "k-means") % 2**31,
    )
    with threadpool_limits(limits=1):
        return np.asarray(kmeans.fit(sample_nD).cluster_centers_, dtype=np.float32)


def refresh(clusters: Clusters, new_nD: Floats) -> Clusters:
    """Mini-batch k-means (Sculley 2010) over items that no centre has seen yet.

    Each centre becomes the mean of the vectors it stood for and of the new ones nearest to it, so a small part of
    new items moves centres a little. Items that were seen must not come again: then nothing new changes nothing,
    bit for bit.

    Args:
        new_nD: vectors of the new items alone; there may be none.

    Raises:
        DataError: numbers that are not finite.
    """
    if not len(new_nD):
        return clusters
    old_KD = clusters.centres_KD
    _check(new_nD, len(old_KD), None)
    centres_KD, weight_K = old_KD.copy(), clusters.weight_K.copy()
    for begin in range(0, len(new_nD), CHUNK):
        _move(centres_KD, weight_K, new_nD[begin : begin + CHUNK])
    order_K = match(old_KD, centres_KD)
    return Clusters(centres_KD[order_K], weight_K[order_K])


def _move(centres_KD: Floats, weight_K: Ints, batch_nD: Floats) -> None:
    """Centres and weights after one mini-batch, in place."""
    cluster_n = nearest(batch_nD, centres_KD)
    gained_K = np.bincount(cluster_n, minlength=len(centres_KD))
    away_KD = np.zeros(centres_KD.shape)
    np.add.at(away_KD, cluster_n, batch_nD - centres_KD[cluster_n])
    weight_K += gained_K
    moved_K = gained_K > 0
    centres_KD[moved_K] += (away_KD[moved_K] / weight_K[moved_K, None]).astype(np.float32)


def nearest(vectors_nD: Floats, centres_KD: Floats) -> Ints:
    """(n,) the nearest centre of each vector; of equally near ones the first."""
    cluster_n = np.empty(len(vectors_nD), dtype=np.int64)
    for begin in range(0, len(vectors_nD), CHUNK):
        rows = slice(begin, begin + CHUNK)
        cluster_n[rows] = distances(vectors_nD[rows], centres_KD).argmin(axis=1)
    return cluster_n


def distances(vectors_nD: Floats, centres_KD: Floats) -> Floats:
    """(n, K) squared distances, without each vector's own square: comparable along a row only.

    Equal centres are exactly equally near, which a matrix product over all of them would not promise.
    """
    distinct_UD, place_K = np.unique(centres_KD, axis=0, return_inverse=True)
    middle_D = distinct_UD.mean(axis=0)  # squares of large numbers would drown small differences
    distinct_UD = distinct_UD - middle_D
    with threadpool_limits(limits=1):
        square_nU = (distinct_UD**2).sum(axis=1) - 2 * (vectors_nD - middle_D) @ distinct_UD.T
    return np.asarray(square_nU[:, place_K.ravel()], dtype=np.float32)


def match(old_KD: Floats, new_KD: Floats) -> Ints:
    """(K,) which new centre takes which old one's number: ``new_KD[match(old_KD, new_KD)]`` moves the least in sum of
    squares."""
    square_KK = ((old_KD[:, None].astype(np.float64) - new_KD) ** 2).sum(axis=2)
    return np.asarray(linear_sum_assignment(square_KK)[1], dtype=np.int64)


def _check(vectors_nD: Floats, k: int, start: Floats | None) -> None:
    if k < 1:
        raise ConfigError(f"k-means was asked for {k} centres; it needs 1 or more.")
    if start is not None and start.shape != (k, vectors_nD.shape[1]):
        raise ConfigError(
            f"the centres to start from have the shape {start.shape}; ({k}, {vectors_nD.shape[1]}) are needed."
        )
    if not len(vectors_nD):
        raise DataError("k-means got no item vectors; it needs 1 or more.")
    if not np.isfinite(vectors_nD).all():
        row = int(np.flatnonzero(~np.isfinite(vectors_nD).all(axis=1))[0])
        raise DataError(
            f"item vector {row} has a number that is not finite; only finite ones can be clustered."
        )
