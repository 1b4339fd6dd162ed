"""Requests in the caller's ids to padded arrays: candidates' features, the exposed list, its feedback."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.columns import NumberColumn, moments, standardise
from slatewise.data.geometry import GEOMETRY, score_geometry
from slatewise.data.ragged import Ragged, aligned, numbers, pad, ragged, request_name
from slatewise.data.schema import FeedbackKind
from slatewise.data.vocab import Vocab
from slatewise.errors import DataError

SCORES = "candidate_scores"
FEEDBACK, CONTEXT, CANDIDATE = "feedback_", "context_", "candidate_"


def candidate_lists(requests: pl.DataFrame) -> Ragged:
    """The requests' candidates.

    Raises:
        DataError: there is no such column, or a request without candidates.
    """
    if "candidates" not in requests.columns:
        raise DataError(f"requests have no column 'candidates'; they have: {', '.join(requests.columns)}.")
    lists = ragged(requests["candidates"])
    if not lists.count.all():
        row = int(np.flatnonzero(lists.count == 0)[0])
        raise DataError(f"{request_name(requests, row)} has no candidates; every request needs at least one.")
    return lists


def width_of(requests: pl.DataFrame, column: str) -> int:
    """Length of the longest list of a column, 0 where the column is not there."""
    return ragged(requests[column]).width if column in requests.columns else 0


def feedback_kinds(requests: pl.DataFrame) -> tuple[FeedbackKind, ...]:
    """The kinds of feedback that the requests log, in the order of their columns."""
    return tuple(
        FeedbackKind(
            name=name.removeprefix(FEEDBACK), binary=_is_binary(numbers(ragged(requests[name]).flat))
        )
        for name in requests.columns
        if name.startswith(FEEDBACK)
    )


def _is_binary(values: NDArray[np.float64]) -> bool:
    return bool((~np.isfinite(values) | (values == 0) | (values == 1)).all())


def fit_candidate_columns(requests: pl.DataFrame) -> tuple[NumberColumn, ...]:
    """Learn the numbers that vary by request: the retriever's score, then ``candidate_<feature>`` columns.

    Raises:
        DataError: a column holds no numbers, or has the name of a feature that is computed from the scores.
    """
    names = [SCORES] if SCORES in requests.columns else []
    names += [name for name in requests.columns if name.startswith(CANDIDATE) and name != SCORES]
    if taken := [name for name in names if name.removeprefix(CANDIDATE) in ("score", *GEOMETRY)]:
        raise DataError(
            f"requests have a column '{taken[0]}', a feature that is computed from '{SCORES}'; rename it."
        )
    fitted = []
    for name in names:
        mean, scale = moments(_number_lists(ragged(requests[name])))
        fitted.append(NumberColumn(column=name, mean=mean, scale=scale))
    return tuple(fitted)


def candidate_names(columns: tuple[NumberColumn, ...]) -> tuple[str, ...]:
    """Names of the numbers that :func:`candidate_numeric` gives."""
    names: list[str] = []
    for column in columns:
        names += ["score", *GEOMETRY] if column.column == SCORES else [column.column.removeprefix(CANDIDATE)]
    return tuple(names)


def candidate_numeric(
    requests: pl.DataFrame, lists: Ragged, columns: tuple[NumberColumn, ...], width: int
) -> NDArray[np.float32]:
    """(n, N, F) numbers of each candidate in its request; 0 for padding, missing values and missing columns.

    Raises:
        DataError: a list is not as long as the request's candidates, or holds no numbers.
    """
    out = np.zeros((requests.height, width, len(candidate_names(columns))), np.float32)
    mask, place = np.arange(width) < lists.count[:, None], 0
    for column in columns:
        end = place + (1 + len(GEOMETRY) if column.column == SCORES else 1)
        if column.column in requests.columns:
            flat = _number_lists(aligned(requests, column.column, lists, "candidates"))
            out[:, :, place] = pad(standardise(flat, column.mean, column.scale), lists.count, width)
            if column.column == SCORES:
                out[:, :, place + 1 : end] = score_geometry(pad(flat, lists.count, width), mask)
        place = end
    return out


def _number_lists(lists: Ragged) -> NDArray[np.float64]:
    if lists.flat.dtype in (pl.String, pl.Categorical, pl.Enum):
        raise DataError(
            f"column '{lists.flat.name}' holds lists of strings; features of a candidate must be numbers."
        )
    return numbers(lists.flat)


def exposed_places(
    requests: pl.DataFrame, items: Vocab, candidates: Ragged, exposed: Ragged, width: int
) -> NDArray[np.int32]:
    """(n, width) place of each exposed item among its request's candidates, unknown items included.

    Raises:
        DataError: an exposed item is not a candidate of its request.
    """
    shown_flat, offered_flat = _identities(items, exposed.flat, candidates.flat)
    shown = pad(shown_flat, exposed.count, width)
    offered = pad(offered_flat, candidates.count, max(candidates.width, 1))
    same = shown[:, :, None] == offered[:, None, :]
    lost = ~same.any(axis=2) & (np.arange(width) < exposed.count[:, None])
    if lost.any():
        row, place = map(int, np.argwhere(lost)[0])
        item = requests["exposed"][row][place]
        raise DataError(
            f"{request_name(requests, row)}: the exposed item '{item}' is not among its candidates."
        )
    real = np.arange(width) < exposed.count[:, None]
    return np.where(real, same.argmax(axis=2), 0).astype(np.int32)


def _identities(items: Vocab, *flats: pl.Series) -> list[NDArray[np.int64]]:
    """Codes that are equal where two ids are: the vocabulary's index, or a negative one of this call."""
    codes = [items.encode(flat).astype(np.int64) for flat in flats]
    strange = [
        flat.filter(pl.Series(code == 0)).cast(pl.String) for flat, code in zip(flats, codes, strict=True)
    ]
    if any(map(len, strange)):
        rank = (
            pl.concat([ids.alias("") for ids in strange])
            .fill_null("")
            .rank("dense")
            .to_numpy()
            .astype(np.int64)
        )
        for code, part in zip(
            codes, np.split(rank, np.cumsum([len(ids) for ids in strange])[:-1]), strict=True
        ):
            code[code == 0] = -part
    return codes


def feedback_values(
    requests: pl.DataFrame, exposed: Ragged, kinds: tuple[FeedbackKind, ...], width: int
) -> NDArray[np.float32]:
    """(n, E, K) feedback of the exposed items; 0 for padding, missing values and missing kinds.

    Raises:
        DataError: a feedback list is not as long as its request's exposed list.
    """
    out = np.zeros((requests.height, width, len(kinds)), np.float32)
    for place, kind in enumerate(kinds):
        if (name := FEEDBACK + kind.name) in requests.columns:
            flat = numbers(aligned(requests, name, exposed, "exposed").flat)
            out[:, :, place] = pad(
                np.where(np.isfinite(flat), flat, 0.0).astype(np.float32), exposed.count, width
            )
    return out


def list_propensity(requests: pl.DataFrame) -> NDArray[np.float32]:
    """(n,) probability that the logger wrote the list, NaN where unknown; a list of them is multiplied."""
    if "propensity" not in requests.columns:
        return np.full(requests.height, np.nan, np.float32)
    series = requests["propensity"]
    if not series.dtype.is_nested():
        return numbers(series).astype(np.float32)
    lists = ragged(series)
    product = np.where(lists.count > 0, 1.0, np.nan)
    np.multiply.at(product, lists.row, numbers(lists.flat))
    return product.astype(np.float32)
