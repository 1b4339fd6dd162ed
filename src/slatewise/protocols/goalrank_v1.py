"""``goalrank-v1``: MovieLens lists with 44 retrieved candidates besides the 6 exposed ones (GoalRank §4.1).

Decoded from the paper's tables: iterative 20-core; each user's ratings in time order, cut into consecutive
chunks of 6; the tail and lists without a positive (rating at least 3) dropped; 50 candidates = the 6 exposed
items and the best 44 others of a matrix factorisation, shuffled; the last 20 % of each user's lists test, the
10 % before them validate. Others are items not exposed in this list and not among the user's ratings that the
list's fit saw.

What it hides: exposed and retrieved candidates come from different sources, so telling them apart is nearly
the whole score. The retriever turned upside down reaches Precision@6 73.1 of at most 81.7, without any model.
Read no quality from this protocol without that row, the score-geometry row and the metrics within the exposed
items.
"""

from __future__ import annotations

import numpy as np

from slatewise.candidates import matrix_factorization
from slatewise.data.log import Lists, Log
from slatewise.protocols import _chunks, _lists


class Config(_lists.Settings):
    """Options; the defaults are the protocol, anything else should not be called by its name in a table.

    ``retriever.fit = "in_sample"`` gives training
    lists the candidates of a fit that saw them, which is likely what the paper did.
    """

    cut: _chunks.Cut = _chunks.Cut()
    retriever: matrix_factorization.Config = matrix_factorization.Config()
    candidates: int = 50


def build(config: Config, log: Log, seed: int) -> Lists:
    """Cut, retrieve, shuffle.

    Raises:
        DataError: the log has no interactions, or too few.
    """
    chunks = _chunks.cut(log, config.cut, config.length, config.positive)
    others = config.candidates - config.length
    found = matrix_factorization.retrieve(
        config.retriever, chunks.training(), chunks.requests(), others, seed
    )
    items_RN = np.concatenate([chunks.items_RE, found.items_RK], axis=1)
    score_RN = np.concatenate([found.exposed_score_RE, found.score_RK], axis=1)
    return _lists.assemble(log, chunks, items_RN, score_RN, found.item_vectors_ID, config, seed)
