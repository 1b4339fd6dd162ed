"""Candidates from the log: those the stage before really handed over, with its scores."""

from __future__ import annotations

import numpy as np

from slatewise.candidates.retrieval import Interactions, Requests, Retrieved
from slatewise.config import Frozen
from slatewise.errors import DataError


class Config(Frozen):
    """Options. ``keep_exposed``: exposed items stay among the candidates, where they were in the log."""

    keep_exposed: bool = False


def retrieve(config: Config, interactions: Interactions, requests: Requests, k: int, seed: int) -> Retrieved:
    """The first k logged candidates of each request: best score first, or in the log's order where it has no
    scores.

    Without scores in the log, the score is minus the place (0, -1, -2 …). Exposed items that are no logged
    candidates score -inf. Nothing is fitted: ``interactions`` give only the number of items, and ``seed`` is
    not used.

    Raises:
        DataError: the requests carry no logged candidates.
    """
    if requests.logged_RN is None:
        raise DataError(
            "the log has no candidates; take them from another retriever, e.g. matrix-factorization."
        )
    items_RN = requests.logged_RN
    place_RN = np.broadcast_to(-np.arange(items_RN.shape[1], dtype=np.float32), items_RN.shape)
    score_RN = place_RN if requests.logged_score_RN is None else requests.logged_score_RN
    score_RN = np.where(items_RN >= 0, score_RN, np.float32(-np.inf))
    match_REN = requests.exposed_RE[:, :, None] == items_RN[:, None, :]
    match_REN &= (requests.exposed_RE >= 0)[:, :, None]
    exposed_score_RE = np.where(match_REN, score_RN[:, None, :], np.float32(-np.inf)).max(axis=2)
    if not config.keep_exposed:
        score_RN = np.where(match_REN.any(axis=1), np.float32(-np.inf), score_RN)
    order_RK = np.argsort(-score_RN, axis=1, kind="stable")[:, :k]
    score_RK = np.take_along_axis(score_RN, order_RK, axis=1)
    items_RK = np.where(np.isneginf(score_RK), -1, np.take_along_axis(items_RN, order_RK, axis=1))
    return Retrieved(
        items_RK, score_RK, exposed_score_RE, np.zeros((interactions.num_items, 0), dtype=np.float32)
    )
