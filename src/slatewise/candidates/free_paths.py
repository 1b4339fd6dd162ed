"""A path of its own for every item: who gets which place where residual k-means gives several items the same codes.

In each round every item that has no path yet walks down: at each level to the nearest code under which a path is free.
Of those that arrive at one path the nearest gets it, the others walk again. So whoever is alone at its nearest path has
it, and nobody leaves a prefix before it is full. Of items with equal vectors the second asks for its second nearest
free code of the last level at once, and so on, after all first choices: the same end, in fewer rounds. Between equals
the place in the table decides, never chance.

Shapes: n items, m paths, S levels of a path, K codes a level, D vector width, t items with an equal before them, r pairs
of an item and a full code.
"""

from __future__ import annotations

import numpy as np

from slatewise.candidates import clusters
from slatewise.candidates.retrieval import Bools, Floats, Ints
from slatewise.errors import ConfigError, DataError


def place(vectors_nD: Floats, centres_SKD: Floats, taken_mS: Ints) -> Ints:
    """(n, S) a path of its own for each vector, none of those taken.

    Args:
        vectors_nD: finite vectors.
        centres_SKD: of each level, centres of what the levels before leave over.
        taken_mS: paths that others have.

    Raises:
        ConfigError: more items than paths.
        DataError: a vector has a number that is not finite.
    """
    levels, k = centres_SKD.shape[:2]
    if len(vectors_nD) + len(taken_mS) > k**levels:
        raise ConfigError(
            f"{len(vectors_nD) + len(taken_mS)} items need a path each, and {levels} levels of {k} codes make "
            f"{k**levels}; raise levels or codes."
        )
    if not np.isfinite(vectors_nD).all():
        raise DataError("an item vector has a number that is not finite; only finite ones can get a path.")
    codes_nS = np.zeros((len(vectors_nD), levels), dtype=np.int64)
    twin_n = np.unique(vectors_nD, axis=0, return_inverse=True)[1].ravel()
    open_n = np.arange(len(vectors_nD))
    while len(open_n):
        turn_n = _turn(twin_n[open_n], np.zeros(len(open_n), dtype=np.float32))
        asked_nS, placed_n = _round(vectors_nD[open_n], turn_n, centres_SKD, taken_mS)
        codes_nS[open_n[placed_n]] = asked_nS[placed_n]
        taken_mS = np.concatenate([taken_mS, asked_nS[placed_n]])
        open_n = open_n[~placed_n]
    return codes_nS


def _round(vectors_nD: Floats, turn_n: Ints, centres_SKD: Floats, taken_mS: Ints) -> tuple[Ints, Bools]:
    """The path (n, S) that each item asks for in one round, and whether it gets it."""
    k, path_nS = centres_SKD.shape[1], descend(vectors_nD, centres_SKD, taken_mS)
    left_nD = vectors_nD - sum_of_centres(centres_SKD[:-1], path_nS[:, :-1])
    twin_t = np.flatnonzero(turn_n)
    path_nS[twin_t, -1], free_t = _later_choice(
        left_nD[twin_t], turn_n[twin_t], path_nS[twin_t, :-1], centres_SKD, taken_mS
    )
    square_n = ((left_nD - centres_SKD[-1][path_nS[:, -1]]) ** 2).sum(axis=1)
    first_n = _turn(_key(path_nS, k), square_n, turn_n) == 0
    first_n[twin_t[~free_t]] = False
    return path_nS, first_n


def _later_choice(
    left_tD: Floats, turn_t: Ints, prefix_tS: Ints, centres_SKD: Floats, taken_mS: Ints
) -> tuple[Ints, Bools]:
    """The free code of the last level that is nearest but ``turn_t``, and whether there are so many."""
    levels, k = centres_SKD.shape[:2]
    square_tK = clusters.distances(left_tD, centres_SKD[-1])
    square_tK[_full(prefix_tS, _full_keys(taken_mS, levels - 1, levels, k), k)] = np.inf
    code_t = np.take_along_axis(
        square_tK.argsort(axis=1, kind="stable"), np.minimum(turn_t, k - 1)[:, None], 1
    )
    free_t = np.isfinite(np.take_along_axis(square_tK, code_t, 1)[:, 0]) & (turn_t < k)
    return code_t[:, 0], free_t


def _turn(key_n: Ints, value_n: Floats, first_n: Ints | None = None) -> Ints:
    """(n,) each one's place among those with the same key: by ``first_n``, then value, then place in the table."""
    order_n = np.lexsort((value_n, key_n) if first_n is None else (value_n, first_n, key_n))
    sorted_n = key_n[order_n]
    turn_n = np.empty(len(key_n), dtype=np.int64)
    turn_n[order_n] = np.arange(len(key_n)) - np.searchsorted(sorted_n, sorted_n)
    return turn_n


def descend(vectors_nD: Floats, centres_SKD: Floats, taken_mS: Ints) -> Ints:
    """(n, S) level by level the nearest code under which not every path is taken."""
    levels, k = centres_SKD.shape[:2]
    full = [_full_keys(taken_mS, level, levels, k) for level in range(levels)]
    codes_nS = np.empty((len(vectors_nD), levels), dtype=np.int64)
    for begin in range(0, len(vectors_nD), clusters.CHUNK):
        rows = slice(begin, begin + clusters.CHUNK)
        left_nD = vectors_nD[rows]
        for level, centres_KD in enumerate(centres_SKD):
            square_nK = clusters.distances(left_nD, centres_KD)
            square_nK[_full(codes_nS[rows, :level], full[level], k)] = np.inf
            codes_nS[rows, level] = square_nK.argmin(axis=1)
            left_nD = left_nD - centres_KD[codes_nS[rows, level]]
    return codes_nS


def _full_keys(taken_mS: Ints, level: int, levels: int, k: int) -> Ints:
    """Keys, in order, of the prefixes of ``level`` + 1 codes under which all paths are taken."""
    key_u, count_u = np.unique(_key(taken_mS[:, : level + 1], k), return_counts=True)
    return key_u[count_u == k ** (levels - level - 1)]


def _full(prefix_nS: Ints, full_u: Ints, k: int) -> Bools:
    """(n, K) True where the prefix with this code behind it is one of ``full_u``, whose order puts those of one
    prefix beside each other."""
    key_n = _key(prefix_nS, k)
    first_n = np.searchsorted(full_u, key_n * k)
    number_n = np.searchsorted(full_u, (key_n + 1) * k) - first_n
    row_r = np.repeat(np.arange(len(key_n)), number_n)
    place_r = np.arange(len(row_r)) - np.repeat(number_n.cumsum() - number_n, number_n)
    full_nK = np.zeros((len(key_n), k), dtype=bool)
    full_nK[row_r, full_u[first_n[row_r] + place_r] % k] = True
    return full_nK


def _key(codes_nS: Ints, k: int) -> Ints:
    """(n,) one number a prefix, in the order of prefixes."""
    key_n = np.zeros(len(codes_nS), dtype=np.int64)
    for code_n in codes_nS.T:
        key_n = key_n * k + code_n
    return key_n


def sum_of_centres(centres_SKD: Floats, codes_nS: Ints) -> Floats:
    """(n, D) what the codes stand for together; zeros without codes."""
    parts = [centres_KD[code_n] for centres_KD, code_n in zip(centres_SKD, codes_nS.T, strict=True)]
    nothing_nD = np.zeros((len(codes_nS), centres_SKD.shape[2]), dtype=np.float32)
    return np.sum([nothing_nD, *parts], axis=0, dtype=np.float32)
