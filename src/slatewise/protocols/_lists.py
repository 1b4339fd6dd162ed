"""From arrays of codes to the tables of :class:`~slatewise.data.log.Lists`, in the caller's own ids."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from slatewise.candidates.popularity import log_popularity
from slatewise.candidates.retrieval import Floats, Ints
from slatewise.config import Count, Frozen, Positive
from slatewise.data.entities import POPULARITY
from slatewise.data.log import Lists, Log
from slatewise.protocols._chunks import SPLITS, Chunks
from slatewise.rng import numpy_rng


class Settings(Frozen):
    """What every protocol of ratings has; each sets its own defaults.

    ``length``: L, the list to write. ``history``: H, the user's interactions before the list that a model sees.
    ``positive``: the lowest rating that counts as a click. ``top_rating``: the highest rating there is.
    """

    length: Positive = 6
    history: Count = 50
    positive: float = 3.0
    top_rating: float = 5.0


def shuffled(items_RN: Ints, score_RN: Floats | None, seed: int) -> tuple[Ints, Floats | None]:
    """Each row's items (and scores) in random order, the -1 behind the end kept there."""
    key_RN = numpy_rng(seed, "shuffle").random(items_RN.shape)
    order_RN = np.argsort(np.where(items_RN >= 0, key_RN, 2.0), axis=1)
    score_RN = None if score_RN is None else np.take_along_axis(score_RN, order_RN, axis=1)
    return np.take_along_axis(items_RN, order_RN, axis=1), score_RN


def requests_table(
    chunks: Chunks, items_RN: Ints, score_RN: Floats | None, click_RE: NDArray[np.bool_]
) -> pl.DataFrame:
    """One row a list, in the log schema, with ``split``; feedback ``click`` (0, 1) and ``rating`` (stars)."""
    mask_RN = items_RN >= 0
    columns = {
        "request_id": pl.Series(np.arange(len(items_RN))),
        "user_id": chunks.user_ids.gather(chunks.user_R),
        "timestamp": pl.Series(chunks.start_R),
        "candidates": list_column(chunks.item_ids.gather(items_RN[mask_RN]), mask_RN.sum(axis=1)),
        "exposed": list_column(chunks.item_ids.gather(chunks.items_RE.ravel()), _full(chunks.items_RE)),
        "feedback_click": list_column(pl.Series(click_RE.ravel().astype(np.float32)), _full(click_RE)),
        "feedback_rating": list_column(pl.Series(chunks.rating_RE.ravel()), _full(chunks.rating_RE)),
        "split": pl.Series(SPLITS[chunks.split_R].tolist()),
    }
    if score_RN is not None:
        columns["candidate_scores"] = list_column(pl.Series(score_RN[mask_RN]), mask_RN.sum(axis=1))
    return pl.DataFrame(columns)


def list_column(flat: pl.Series, count_R: Ints) -> pl.Series:
    """A list column from all its values, row after row, and the number of values in each row."""
    offsets = np.concatenate([[0], np.cumsum(count_R)])
    values = flat.to_arrow()
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values))


def _full(array_RE: NDArray[np.generic]) -> Ints:
    return np.full(len(array_RE), array_RE.shape[1])


def assemble(
    log: Log,
    chunks: Chunks,
    items_RN: Ints,
    score_RN: Floats | None,
    item_vectors_ID: Floats,
    settings: Settings,
    seed: int,
    *,
    unexposed_is_negative: bool = True,
) -> Lists:
    """The protocol's answer: each list's candidates (and scores), shuffled; tables of the users and items that are left.

    Items get the feature ``log_popularity`` (in the training lists); an interaction's feedback in the history
    is its rating divided by the top rating.
    """
    click_RE = chunks.rating_RE >= settings.positive
    popularity = pl.DataFrame({"item_id": chunks.item_ids, POPULARITY: log_popularity(chunks.training())})
    vectors = pl.DataFrame({"item_id": chunks.item_ids, "vector": _rows(item_vectors_ID)})
    return Lists(
        requests=requests_table(chunks, *shuffled(items_RN, score_RN, seed), click_RE),
        users=_of(log.users, chunks.user_ids.to_frame("user_id")),
        items=_of(log.items, popularity),
        interactions=chunks.interactions.with_columns(pl.col("feedback") / settings.top_rating),
        item_vectors=vectors if item_vectors_ID.shape[1] else None,
        length=settings.length,
        history=settings.history,
        target={"click": 1.0},
        unexposed_is_negative=unexposed_is_negative,
        counts=log.counts | chunks.counts,
        truth=log.truth,
    )


def _of(features: pl.DataFrame | None, kept: pl.DataFrame) -> pl.DataFrame:
    """``kept`` (ids, and perhaps columns of its own) with the features that are known of them."""
    return (
        kept
        if features is None
        else kept.join(features, on=kept.columns[0], how="left", maintain_order="left")
    )


def _rows(array_ID: Floats) -> pl.Series:
    return list_column(pl.Series(array_ID.ravel()), _full(array_ID))
