"""The feature transform: learned once on training requests, used alike to prepare data and to serve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise import config as configs
from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.data.clock import seconds
from slatewise.data.columns import Column, FeatureSet, NumberColumn
from slatewise.data.entities import EntityFeatures, read_json
from slatewise.data.fields import Drawn, batch_of
from slatewise.data.history import History, history_lists, no_history
from slatewise.data.prepared import REQUEST_COLUMNS, request_shapes
from slatewise.data.ragged import Ragged, pad, ragged
from slatewise.data.requests import (
    CONTEXT,
    candidate_lists,
    candidate_names,
    candidate_numeric,
    exposed_places,
    feedback_kinds,
    feedback_values,
    fit_candidate_columns,
    list_propensity,
    width_of,
)
from slatewise.data.schema import FeedbackKind, Schema
from slatewise.data.tables import Array
from slatewise.data.vocab import Vocab
from slatewise.errors import DataError

_CHUNK = 8192  # requests transformed at a time, which bounds the memory of what lies in between


class _Saved(Frozen):
    """What ``transform.json`` holds."""

    length: int
    exposed: int
    history: int
    candidates: int
    feedback: tuple[FeedbackKind, ...]
    context: tuple[Column, ...]
    candidate: tuple[NumberColumn, ...]


@dataclass(frozen=True)
class FeatureTransform:
    """Requests in the caller's ids to the arrays and batches that models read.

    Attributes:
        users, items: vocabularies and features of the entities.
        context: the ``context_*`` columns.   candidate: the ``candidate_*`` columns, scores first.
        feedback: kinds of feedback, in the order of the batch's last axis.
        length, exposed, history, num_candidates: L, E, H and N.
    """

    users: EntityFeatures
    items: EntityFeatures
    context: FeatureSet
    candidate: tuple[NumberColumn, ...]
    feedback: tuple[FeedbackKind, ...]
    length: int
    exposed: int
    history: int
    num_candidates: int

    @classmethod
    def fit(
        cls,
        train: pl.DataFrame,
        users: pl.DataFrame | None = None,
        items: pl.DataFrame | None = None,
        *,
        length: int,
        exposed_width: int,
        history: int,
        candidates_width: int,
        histories: History | None = None,
        interactions: pl.DataFrame | None = None,
    ) -> FeatureTransform:
        """Learn vocabularies and statistics from training requests.

        Items count as trained if a training request offers them, shows them, or has them in its history
        (``histories``), or if they are in the ``interactions`` that may be trained on; all others of the items table
        have features only (see :class:`EntityFeatures`). Users likewise.

        Raises:
            DataError: a table or column is not what the log schema says.
        """
        offered = candidate_lists(train).flat
        shown = ragged(train["exposed"]).flat if "exposed" in train.columns else offered.head(0)
        before = histories.used() if histories is not None else offered.head(0)
        met = interactions["item_id"] if interactions is not None else offered.head(0)
        asking = [
            frame["user_id"] for frame in (train, interactions) if frame is not None and "user_id" in frame
        ]
        named = [ids.unique() for ids in (offered, shown, before, met) if len(ids)]
        return cls(
            users=EntityFeatures.fit("user_id", users, Vocab.of(*asking).ids),
            items=EntityFeatures.fit("item_id", items, Vocab.of(*named).ids, shown),
            context=FeatureSet.fit(train, [name for name in train.columns if name.startswith(CONTEXT)]),
            candidate=fit_candidate_columns(train),
            feedback=feedback_kinds(train),
            length=length,
            exposed=max(exposed_width, length),
            history=history,
            num_candidates=candidates_width,
        )

    def schema(self, item_vector: int = 0) -> Schema:
        """Widths of what this transform writes; ``item_vector`` is the width of the items' start vectors."""
        return Schema(
            candidates=self.num_candidates,
            length=self.length,
            exposed=self.exposed,
            history=self.history,
            users=len(self.users.vocab),
            items=len(self.items.vocab),
            feedback=self.feedback,
            user_numeric=self.users.numeric_names,
            user_categories=self.users.features.category_sizes,
            context_numeric=self.context.numeric_names,
            context_categories=self.context.category_sizes,
            item_numeric=self.items.numeric_names,
            item_categories=self.items.features.category_sizes,
            candidate_numeric=candidate_names(self.candidate),
            item_vector=item_vector,
            trained_users=self.users.trained,
            trained_items=self.items.trained,
        )

    def columns(
        self, requests: pl.DataFrame, histories: History | None = None, *, width: int | None = None
    ) -> dict[str, Array]:
        """The columns of a split (:data:`~slatewise.data.prepared.REQUEST_COLUMNS`).

        Args:
            requests: the log schema; all but ``candidates`` may be missing.
            histories: one for each request; default: the column ``history`` if there, else none.
            width: N of the arrays; default: the schema's, or that of the widest request.

        Raises:
            DataError: an exposed item is no candidate, lists are not aligned, or a type does not fit.
        """
        if histories is None:
            given = "history" in requests.columns
            histories = history_lists(requests, self.history) if given else no_history(requests.height)
        schema = self._schema_for(requests, width)
        past = self._coded(histories)
        shapes = request_shapes(schema)
        out = {
            name: np.zeros((requests.height, *shapes[name]), kind) for name, kind in REQUEST_COLUMNS.items()
        }
        for start in range(0, requests.height, _CHUNK):
            rows = slice(start, min(start + _CHUNK, requests.height))
            chunk = self._chunk(requests[rows], histories.rows(rows), past, schema)
            for name, values in chunk.items():
                out[name][rows] = values
        return out

    def batch(
        self,
        requests: pl.DataFrame,
        *,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        width: int | None = None,
    ) -> ListBatch:
        """Requests as a batch, equal to the prepared one of the same requests.

        Args:
            requests: as for :meth:`columns`; ``history`` is optional, and oldest first.
            items, users: features of new items and users, or newer ones of known ones; columns that are not
                given stay as prepared (0, the mean, for a new one).
            width: N of the batch; default: the schema's, or that of the widest request.

        Raises:
            DataError: as :meth:`columns`.
        """
        given = "history" in requests.columns
        histories = history_lists(requests, self.history) if given else no_history(requests.height)
        columns = self.columns(requests, histories, width=width)
        drawn = Drawn.of(
            columns, self.users.table, self.items.table, np.arange(requests.height, dtype=np.int64)
        )
        if items is not None:
            drawn = self._with_items(drawn, requests, histories, items)
        if users is not None and "user_id" in requests.columns:
            patch = self.users.patch(users)
            row = patch.ids.encode(requests["user_id"])
            drawn = replace(drawn, users=drawn.users.over(patch.table, row))
        return batch_of(drawn)

    def save(self, folder: Path) -> None:
        """Write JSON and Arrow files into ``folder``, which is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        saved = _Saved(
            length=self.length,
            exposed=self.exposed,
            history=self.history,
            candidates=self.num_candidates,
            feedback=self.feedback,
            context=self.context.columns,
            candidate=self.candidate,
        )
        (folder / "transform.json").write_bytes(msgspec.json.encode(saved))
        self.users.save(folder, "users")
        self.items.save(folder, "items")

    @classmethod
    def load(cls, folder: Path) -> FeatureTransform:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: a file is missing or damaged.
        """
        saved = read_json(folder / "transform.json", _Saved)
        return cls(
            users=EntityFeatures.load(folder, "users"),
            items=EntityFeatures.load(folder, "items"),
            context=FeatureSet(saved.context),
            candidate=saved.candidate,
            feedback=saved.feedback,
            length=saved.length,
            exposed=saved.exposed,
            history=saved.history,
            num_candidates=saved.candidates,
        )

    def _schema_for(self, requests: pl.DataFrame, width: int | None) -> Schema:
        widest = width_of(requests, "candidates")
        if width is not None and width < widest:
            raise DataError(f"a request has {widest} candidates, but at most {width} are allowed here.")
        return configs.replace(
            self.schema(),
            candidates=width or max(self.num_candidates, widest),
            exposed=max(self.exposed, width_of(requests, "exposed")),
        )

    def _chunk(
        self, requests: pl.DataFrame, histories: History, past: dict[str, Array], schema: Schema
    ) -> dict[str, Array]:
        offered = candidate_lists(requests)
        return {
            "user": self._user(requests),
            "time": self._time(requests),
            "context_numeric": self.context.numeric(requests),
            "context_categories": self.context.categories(requests),
            "num_candidates": offered.count,
            "candidates": pad(self.items.vocab.encode(offered.flat), offered.count, schema.candidates),
            "candidate_numeric": candidate_numeric(requests, offered, self.candidate, schema.candidates),
            "propensity": list_propensity(requests),
            **histories.padded(past, schema.history),
            **self._exposure(requests, offered, schema.exposed),
        }

    def _coded(self, histories: History) -> dict[str, Array]:
        """The flat run of interactions as the arrays that the columns of the history are cut from."""
        known = histories.context.width > 0
        context = histories.context if known else pl.DataFrame({"": np.zeros(len(histories.items), bool)})
        return {
            "history": self.items.vocab.encode(histories.items),
            "history_feedback": histories.feedback,
            "history_time": histories.time,
            "history_context_numeric": self.context.numeric(context),
            "history_context_categories": self.context.categories(context),
        }

    def _time(self, requests: pl.DataFrame) -> NDArray[np.int64]:
        timed = "timestamp" in requests.columns
        return seconds(requests["timestamp"]) if timed else np.zeros(requests.height, np.int64)

    def _user(self, requests: pl.DataFrame) -> NDArray[np.int32]:
        named = "user_id" in requests.columns
        return self.users.vocab.encode(requests["user_id"]) if named else np.zeros(requests.height, np.int32)

    def _exposure(self, requests: pl.DataFrame, offered: Ragged, width: int) -> dict[str, Array]:
        if "exposed" not in requests.columns:
            return {}
        shown = ragged(requests["exposed"])
        return {
            "num_exposed": shown.count,
            "exposed": exposed_places(requests, self.items.vocab, offered, shown, width),
            "feedback": feedback_values(requests, shown, self.feedback, width),
        }

    def _with_items(
        self, drawn: Drawn, requests: pl.DataFrame, histories: History, items: pl.DataFrame
    ) -> Drawn:
        """Newer features of items laid over, among the candidates and in the history."""
        patch, offered = self.items.patch(items), candidate_lists(requests)
        row_BN = pad(patch.ids.encode(offered.flat), offered.count, drawn.items.index.shape[1])
        row_BH = histories.padded({"row": patch.ids.encode(histories.items)}, self.history)["row"]
        return replace(
            drawn,
            items=drawn.items.over(patch.table, row_BN),
            history=drawn.history.over(patch.table, row_BH),
        )
