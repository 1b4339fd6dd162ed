"""Candidates by matrix factorisation for implicit feedback, cross-fitted.

Alternating least squares (Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets",
ICDM 2008) on who interacted with what. Scores of pairs that a fit has seen are near 1, scores of the same
user's later items are near 0; a ranker trained on such scores learns to trust what will be missing in test.
So a training request is scored by a fit that did not see it (cross-fitting over folds of lists), all others
by the fit on all training lists. The same seed gives the same bits: one thread, one BLAS thread.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

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
from slatewise.config import Frozen, Positive, Weight
from slatewise.rng import child_seed


class Config(Frozen):
    """Options of the factorisation.

    ``alpha`` is the confidence in a logged pair, beside 1 for every other pair (Hu et al.'s c_ui).
    ``fit``: ``cross_fit`` (over ``folds``) or ``in_sample``, where training lists are scored by a fit that
    saw them.
    """

    factors: Positive = 64
    iterations: Positive = 15
    regularization: Weight = 0.01
    alpha: Weight = 10.0
    fit: Literal["cross_fit", "in_sample"] = "cross_fit"
    folds: int = 4


def retrieve(config: Config, interactions: Interactions, requests: Requests, k: int, seed: int) -> Retrieved:
    """The k best unseen items of each request (see :func:`slatewise.candidates.retrieval.top_k`)."""
    return top_k(fit(config, interactions, requests, seed), requests, k)


def fit(config: Config, interactions: Interactions, requests: Requests, seed: int) -> Fits:
    """Fit one factorisation per fold, and one on all interactions.

    The item vectors are the last one's item factors, scaled to mean square 1.
    """
    folds = config.folds if config.fit == "cross_fit" else 0
    fit_R = assign_fits(requests, folds, seed)
    factors = [factorise(config, seen_by(i, folds, fit_R, interactions), seed) for i in range(folds)]
    factors.append(factorise(config, interactions, seed))

    def score(fit: int, user_R: Ints) -> Floats:
        user_UD, item_ID = factors[fit]
        with threadpool_limits(limits=1):
            return user_UD[user_R] @ item_ID.T

    item_ID = factors[-1][1]
    return Fits(fit_R, folds, score, interactions, item_ID / max(float(np.sqrt(np.mean(item_ID**2))), 1e-12))


def factorise(config: Config, interactions: Interactions, seed: int) -> tuple[Floats, Floats]:
    """User and item factors; users without interactions get the mean user's, so scores follow popularity."""
    weight_n = np.ones(len(interactions.user_n), dtype=np.float32)
    shape = (interactions.num_users, interactions.num_items)
    matrix_UI = csr_matrix((weight_n, (interactions.user_n, interactions.item_n)), shape=shape)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # implicit advises on BLAS threads, which are already one
        model = AlternatingLeastSquares(
            factors=config.factors,
            regularization=config.regularization,
            alpha=config.alpha,
            iterations=config.iterations,
            num_threads=1,
            random_state=child_seed(seed, "als") % 2**31,
        )
        model.fit(matrix_UI, show_progress=False)
    user_UD, item_ID = np.array(model.user_factors), np.array(model.item_factors)
    known_U = np.diff(matrix_UI.indptr) > 0
    if known_U.any():
        user_UD[~known_U] = user_UD[known_U].mean(axis=0)
    return user_UD, item_ID
