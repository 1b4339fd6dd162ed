"""``degre-v1``: MovieLens lists of 6 exposed items among 12 candidates, leave-one-out (DeGRe §5.1).

All users and items of the file, as in the paper's Table 1. Each user's ratings in time order are cut into
consecutive lists of 6 and the tail is dropped; beside the 6 stand 6 items that the user never rated, drawn
uniformly, all 12 shuffled. Positive = 5 stars; lists without a positive stay. A user's last list tests, the one
before validates, the rest train. Every label is known: what was not shown counts as 0.

The paper grades by "an independent external evaluator" that it does not describe, and who grades decides the
number. So the users are cut in two: rankers, their rewards and a judge of the same users learn from one half and
are tested on it; the other half's lists are the split ``judges``, from which only judges learn
(:mod:`slatewise.evaluation.judges`).

What it hides: labels carry no effect of one item on another, and uniform negatives are unpopular items, so
popularity alone goes far.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slatewise.candidates import matrix_factorization
from slatewise.candidates.retrieval import Bools, Ints
from slatewise.data.log import Lists, Log
from slatewise.protocols import _chunks, _lists
from slatewise.protocols._chunks import SPLITS, Chunks
from slatewise.rng import numpy_rng

CHUNK = 2048  # lists drawn for at once: 60 MB for 3,700 items


class Config(_lists.Settings):
    """Options; the defaults are the protocol.

    ``core``: users and items with fewer ratings are dropped, until none is left. ``judge_users``: the share of users
    whose lists only judges see (0: none). ``vectors``: width of the items' start vectors, a matrix factorisation of
    the training lists.
    """

    core: int = 1
    candidates: int = 12
    history: int = 20
    positive: float = 5.0
    judge_users: float = 0.5
    vectors: int = 64


def build(config: Config, log: Log, seed: int) -> Lists:
    """Cut, divide the users, draw, shuffle.

    Raises:
        DataError: the log has no interactions, or too few.
    """
    chunks = _chunks.cut(log, _chunks.Cut(core=config.core), config.length, -np.inf)
    for_judges_U = _drawn_users(len(chunks.user_ids), config.judge_users, seed)
    split_R = np.where(for_judges_U[chunks.user_R], _place("judges"), leave_one_out(chunks.user_R))
    chunks = replace(chunks, split_R=split_R)
    items_RN = np.concatenate([chunks.items_RE, _negatives(config, chunks, seed)], axis=1)
    factors = matrix_factorization.Config(factors=config.vectors, fit="in_sample")
    fits = matrix_factorization.fit(factors, chunks.training(), chunks.requests(), seed)
    return _lists.assemble(log, chunks, items_RN, None, fits.item_vectors_ID, config, seed)


def leave_one_out(user_R: Ints) -> Ints:
    """Split of each list, given the lists sorted by user and time: the last tests, the one before validates."""
    _, first_U, total_U = np.unique(user_R, return_index=True, return_counts=True)
    left_R = np.repeat(first_U + total_U, total_U) - 1 - np.arange(len(user_R))
    return np.where(left_R == 0, _place("test"), np.where(left_R == 1, _place("validation"), _place("train")))


def _place(split: str) -> int:
    return SPLITS.tolist().index(split)


def _drawn_users(users: int, share: float, seed: int) -> Bools:
    drawn_U = np.zeros(users, dtype=bool)
    drawn_U[numpy_rng(seed, "judges").permutation(users)[: round(share * users)]] = True
    return drawn_U


def _negatives(config: Config, chunks: Chunks, seed: int) -> Ints:
    """Items that the user never rated, drawn uniformly without repeats; -1 where there are not enough."""
    rng, rated_UI = numpy_rng(seed, "negatives"), chunks.rated_UI()
    number = min(config.candidates - config.length, rated_UI.shape[1])
    items_RS = np.empty((len(chunks.user_R), number), dtype=np.int64)
    for start in range(0, len(items_RS), CHUNK):
        rows = slice(start, start + CHUNK)
        rated_RI = rated_UI[chunks.user_R[rows]]
        key_RI = rng.random(rated_RI.shape, dtype=np.float32) + 2 * rated_RI
        drawn_RS = np.argpartition(key_RI, number - 1, axis=1)[:, :number]
        rated_RS = np.take_along_axis(rated_RI, drawn_RS, axis=1)
        items_RS[rows] = np.sort(np.where(rated_RS, -1, drawn_RS), axis=1)[:, ::-1]
    return items_RS
