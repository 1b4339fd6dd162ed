"""``rated-v1``: MovieLens lists in which every candidate was rated by the user; nothing is sampled.

24 consecutive ratings of a user are the candidates, in random order; 6 are to be chosen; positive = 5 stars.
All 24 count as exposed, in time order, so every label is real. Lists without a positive are dropped; core and
split are those of ``goalrank-v1``.

Ratings carry no effect of one item on another, so a list-aware method can here at best equal a good item
scorer.
"""

from __future__ import annotations

from slatewise.candidates import matrix_factorization
from slatewise.candidates.retrieval import score_exposed
from slatewise.config import replace
from slatewise.data.log import Lists, Log
from slatewise.protocols import _chunks, _lists


class Config(_lists.Settings):
    """Options; the defaults are the protocol.

    ``scores``: candidates carry the (cross-fitted) retriever's scores, else none.
    """

    cut: _chunks.Cut = _chunks.Cut()
    retriever: matrix_factorization.Config = matrix_factorization.Config()
    candidates: int = 24
    positive: float = 5.0
    scores: bool = True


def build(config: Config, log: Log, seed: int) -> Lists:
    """Cut, score, shuffle.

    Raises:
        DataError: the log has no interactions, or too few.
    """
    chunks = _chunks.cut(log, config.cut, config.candidates, config.positive)
    retriever = config.retriever if config.scores else replace(config.retriever, fit="in_sample")
    fits = matrix_factorization.fit(retriever, chunks.training(), chunks.requests(), seed)
    score_RN = score_exposed(fits, chunks.requests()) if config.scores else None
    return _lists.assemble(
        log,
        chunks,
        chunks.items_RE,
        score_RN,
        fits.item_vectors_ID,
        config,
        seed,
        unexposed_is_negative=False,
    )
