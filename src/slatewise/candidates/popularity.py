"""Candidates by popularity: an item's score is the logarithm of its number of interactions, the same for all
users.

Cross-fitted like the matrix factorisation, so that a training list does not vote for its own items.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from slatewise.candidates.retrieval import (
    Fits,
    Floats,
    Interactions,
    Ints,
    Requests,
    Retrieved,
    assign_fits,
    seen_by,
    top_k,
)
from slatewise.config import Frozen


class Config(Frozen):
    """Options. ``fit``: ``cross_fit`` (over ``folds``) or ``in_sample`` (a list votes for itself)."""

    fit: Literal["cross_fit", "in_sample"] = "cross_fit"
    folds: int = 4


def retrieve(config: Config, interactions: Interactions, requests: Requests, k: int, seed: int) -> Retrieved:
    """The k most popular unseen items of each request (see :func:`slatewise.candidates.retrieval.top_k`)."""
    return top_k(fit(config, interactions, requests, seed), requests, k)


def fit(config: Config, interactions: Interactions, requests: Requests, seed: int) -> Fits:
    """Count once per fold, and once on all interactions; the item vector is the score itself."""
    folds = config.folds if config.fit == "cross_fit" else 0
    fit_R = assign_fits(requests, folds, seed)
    scores = [log_popularity(seen_by(i, folds, fit_R, interactions)) for i in range(folds)]
    scores.append(log_popularity(interactions))

    def score(fit: int, user_R: Ints) -> Floats:
        return np.tile(scores[fit], (len(user_R), 1))

    return Fits(fit_R, folds, score, interactions, scores[-1][:, None])


def log_popularity(interactions: Interactions) -> Floats:
    """(I,) the logarithm of one plus each item's number of interactions."""
    count_I = np.bincount(interactions.item_n, minlength=interactions.num_items)
    return np.log1p(count_I).astype(np.float32)
