"""``matched-v1``: MovieLens lists whose negatives the retriever cannot tell from the exposed items.

Lists, split and feedback as in ``goalrank-v1``; but the 44 other candidates are items that the user never
rated, 7 or 8 for each exposed item, drawn uniformly from that item's bin of the retriever's ranking
(:mod:`slatewise. candidates.rank_bins`). So neither the retriever's score nor its geometry separates the two
sources.

What is left, measured on MovieLens-1M's test lists as AUC of exposed against drawn: retriever 0.51, score
geometry 0.51, popularity 0.65 (0.55 with ``popularity_binned``), co-occurrence with the user's last 3 items
0.81 (0.78). The last comes from the pages on which people rated films one after the other; no sampling removes
it, so every table prints it. On training lists the cross-fitted retriever still has 0.54, perhaps because
held-out lists lie between lists that the fit saw and so crowd at the top of the ranking, where bins run short.
"""

from __future__ import annotations

import numpy as np

from slatewise.candidates import matrix_factorization
from slatewise.candidates.popularity import log_popularity
from slatewise.candidates.rank_bins import Bins, matched_negatives
from slatewise.candidates.retrieval import Fits, Floats, Ints, at
from slatewise.data.log import Lists, Log
from slatewise.protocols import _chunks, _lists
from slatewise.rng import numpy_rng


class Config(_lists.Settings):
    """Options; the defaults are the protocol.

    ``popularity_binned`` draws from the piece of about ``popularity_width`` items of like popularity within
    the bin.
    """

    cut: _chunks.Cut = _chunks.Cut()
    retriever: matrix_factorization.Config = matrix_factorization.Config()
    candidates: int = 50
    bin_first: int = 24
    bin_growth: float = 1.15
    bin_last: int = 160
    popularity_binned: bool = False
    popularity_width: int = 20


def build(config: Config, log: Log, seed: int) -> Lists:
    """Cut, draw, shuffle.

    Raises:
        DataError: the log has no interactions, or too few.
    """
    chunks = _chunks.cut(log, config.cut, config.length, config.positive)
    fits = matrix_factorization.fit(config.retriever, chunks.training(), chunks.requests(), seed)
    items_RN, score_RN = _candidates(config, chunks, fits, seed)
    return _lists.assemble(log, chunks, items_RN, score_RN, fits.item_vectors_ID, config, seed)


def _candidates(config: Config, chunks: _chunks.Chunks, fits: Fits, seed: int) -> tuple[Ints, Floats]:
    """The exposed items, then the drawn ones, with the scores of each list's own fit."""
    width = config.popularity_width if config.popularity_binned else 0
    bins = Bins(first=config.bin_first, growth=config.bin_growth, last=config.bin_last, popularity=width)
    never_rated_UI, popularity_I = ~chunks.rated_UI(), log_popularity(fits.interactions)
    rng, drawn = numpy_rng(seed, "negatives"), config.candidates - config.length
    items_RN = np.zeros((len(chunks.user_R), config.candidates), dtype=np.int64)
    score_RN = np.zeros(items_RN.shape, dtype=np.float32)
    for chunk in fits.chunks(chunks.requests()):
        exposed_RE, may_draw_RI = chunks.items_RE[chunk.rows_R], never_rated_UI[chunks.user_R[chunk.rows_R]]
        negative_RS = matched_negatives(
            bins, chunk.score_RI, may_draw_RI, exposed_RE, popularity_I, drawn, rng
        )
        items_RN[chunk.rows_R] = np.concatenate([exposed_RE, negative_RS], axis=1)
        score_RN[chunk.rows_R] = at(chunk.score_RI, items_RN[chunk.rows_R])
    return items_RN, score_RN
