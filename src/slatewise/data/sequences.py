"""What users did, one after the other, as the flat arrays that :mod:`slatewise.data.interactions` maps."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.clock import seconds
from slatewise.data.features import FeatureTransform
from slatewise.data.ragged import numbers
from slatewise.data.tables import Array


def sequence_columns(
    interactions: pl.DataFrame, transform: FeatureTransform
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Interactions sorted by user, time and row, and where each user's begin and end.

    Args:
        interactions: ``user_id, item_id, timestamp, feedback``, and any of ``feedback_<kind>`` and ``context_<name>``;
            users and times are all known.
        transform: their users are in its vocabulary.

    Returns:
        The columns of ``interactions.arrow`` and those of ``sequences.arrow``.
    """
    user = transform.users.vocab.encode(interactions["user_id"])
    order = np.lexsort((interactions["timestamp"].rank("dense").to_numpy(), user))
    done = interactions[order]
    columns: dict[str, Array] = {
        "item": transform.items.vocab.encode(done["item_id"]),
        "time": seconds(done["timestamp"]),
        "feedback": _finite(done["feedback"]),
        "kinds": _kinds(done, transform),
        "context_numeric": transform.context.numeric(done),
        "context_categories": transform.context.categories(done),
    }
    users, start, count = np.unique(user[order], return_index=True, return_counts=True)
    return columns, {"user": users, "start": start.astype(np.int64), "end": (start + count).astype(np.int64)}


def _kinds(done: pl.DataFrame, transform: FeatureTransform) -> NDArray[np.float32]:
    """(M, K) each kind of feedback, 0 where it is missing."""
    columns = [
        _finite(done[name]) if (name := f"feedback_{kind.name}") in done.columns else np.zeros(done.height)
        for kind in transform.feedback
    ]
    return np.stack(columns, 1).astype(np.float32) if columns else np.zeros((done.height, 0), np.float32)


def _finite(values: pl.Series) -> NDArray[np.float32]:
    return np.nan_to_num(numbers(values), nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
