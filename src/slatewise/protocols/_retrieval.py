"""Requests through a first stage: a pass that finds candidates and a pass that scores them, in chunks.

Shapes, besides the legend in :mod:`slatewise.types`: R requests, b of them at once, K items found, V ids of the data set.
Items are codes of the data set, 1 … V; -1 is none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import torch

from slatewise.candidates.retrieval import Bools, Ints
from slatewise.data.batch import ListBatch
from slatewise.data.clock import seconds
from slatewise.data.entities import AVAILABLE
from slatewise.data.history import history_columns, request_history
from slatewise.data.log import Lists
from slatewise.data.ragged import keep, pad, ragged
from slatewise.data.vocab import Vocab
from slatewise.errors import DataError
from slatewise.protocols._lists import list_column, shuffled
from slatewise.protocols.first_stage import HELD_OUT, FirstStage, Progress
from slatewise.protocols.log_v1 import candidate_columns, exposed_columns

CHUNK = 256  # requests encoded at once
NOTHING = -1e8  # no model scores an item that it knows so low


class Retrieval:
    """Lists and a stage, with what both passes need.

    Attributes:
        vocab: all ids that the data set has.   of_stage: (I,) the code of each index of the stage, 0 where it has none.
        available: (V + 1,) seconds from which on an item may be recommended.
        train_R: True for the requests that keep what they showed.
    """

    def __init__(self, lists: Lists, stage: FirstStage, progress: Progress | None) -> None:
        requests, items = lists.requests, stage.transform.items.vocab
        self.lists, self.stage, self.progress, self.done = lists, stage, progress, 0
        self.histories = request_history(requests, lists.interactions, lists.target, stage.transform.history)
        self.vocab = _ids(lists)
        self.of_stage = self.vocab.encode(items.decode(np.arange(len(items)))).astype(np.int64)
        self.available = _available(lists.items, self.vocab)
        self.time_R = seconds(requests["timestamp"])
        self.train_R = (~requests["split"].is_in(HELD_OUT)).to_numpy()

    def requests(self, count: int, seed: int, counts: dict[str, int]) -> pl.DataFrame:
        """The requests with ``count`` candidates in random order, their scores, and what is left of what was shown;
        ``counts`` is told what is not."""
        logged_RE = self._logged()
        both_RN = _front(np.concatenate([logged_RE, self._found(logged_RE, count)], axis=1), count)
        items_RN, _ = shuffled(both_RN, None, seed)
        requests = self._still_shown(self._offered(items_RN, counts), items_RN, counts)
        number_R = (items_RN > 0).sum(axis=1)
        if short := int(((number_R > 0) & (number_R < count)).sum()):
            counts["requests with fewer candidates: no more items on offer"] = short
        if empty := int((number_R == 0).sum()):
            counts["requests left out: no item on offer"] = empty
        return requests.filter(pl.Series(number_R > 0))

    def _logged(self) -> Ints:
        """(R, E) what a training request showed; none in the others."""
        shown = ragged(self.lists.requests["exposed"])
        code_RE = pad(self.vocab.encode(shown.flat).astype(np.int64), shown.count, shown.width)
        return np.where(self.train_R[:, None] & (code_RE > 0), code_RE, -1)

    # --- the pass that finds ---

    def _found(self, logged_RE: Ints, count: int) -> Ints:
        """(R, N) what the stage finds besides, best first."""
        found_RN = np.full((len(logged_RE), count), -1, np.int64)
        later = int((self.available > self.time_R.min(initial=np.iinfo(np.int64).max)).sum())
        first = count + logged_RE.shape[1]
        for rows in self._chunks():
            batch = self._batch(rows, self.lists.requests[rows]["candidates"])
            open_b, ask = np.arange(batch.size), first
            while len(open_b):  # whoever lacks some, because they are not on offer yet, asks for more
                some = batch.take(torch.from_numpy(open_b))
                at_b = rows.start + open_b
                found_RN[at_b], ended_b = self._search(some, self.time_R[at_b], logged_RE[at_b], count, ask)
                missing_b = (found_RN[at_b] >= 0).sum(1) + (logged_RE[at_b] >= 0).sum(1) < count
                open_b = open_b[missing_b & ~ended_b & (ask < first + later)]
                ask = min(2 * ask, first + later)
        return found_RN

    def _search(
        self, batch: ListBatch, time_b: Ints, logged_bE: Ints, count: int, ask: int
    ) -> tuple[Ints, Bools]:
        """(b, N) of the stage's first ``ask`` those on offer that were not shown; and whether its catalogue ends there."""
        found = self.stage.find(batch, ask)
        index_bK, mask_bK = found.items_BK.cpu().numpy(), found.mask_BK.cpu().numpy()
        code_bK = self.of_stage[index_bK]
        if (strange := mask_bK & (code_bK == 0)).any():
            item = self.stage.transform.items.vocab.decode(index_bK[strange][:1])[0]
            raise DataError(
                f"{self.stage.name} retrieves the item '{item}', which this data set does not have; add it to the table of "
                "items, or name a run that was trained on this data set."
            )
        good_bK = mask_bK & (self.available[code_bK] <= time_b[:, None])
        good_bK &= ~(code_bK[:, :, None] == logged_bE[:, None]).any(axis=2)
        return _front(np.where(good_bK, code_bK, -1), count), mask_bK.sum(axis=1) < ask

    # --- the pass that scores ---

    def _offered(self, items_RN: Ints, counts: dict[str, int]) -> pl.DataFrame:
        """The requests with these candidates and the stage's scores of them, and nothing else that is a candidate's."""
        requests, real_RN = self.lists.requests, items_RN > 0
        ids = self.vocab.decode(items_RN[real_RN]).cast(ragged(requests["candidates"]).flat.dtype)
        candidates = list_column(ids, real_RN.sum(axis=1))
        scores = pl.concat([self._scores(rows, candidates[rows]) for rows in self._chunks()])
        columns = candidate_columns(requests)
        if lost := set(columns) - {"candidates", "candidate_scores"}:
            counts["features of candidates left out: not known of retrieved items"] = len(lost)
        return requests.drop(columns).with_columns(candidates=candidates, candidate_scores=scores)

    def _scores(self, rows: slice, candidates: pl.Series) -> pl.Series:
        """The stage's scores of given candidates; what it cannot know has the lowest of the request."""
        count_b = ragged(candidates).count
        there_b = count_b > 0
        batch = self._batch(rows, candidates, there_b)
        index_bN, mask_bN = batch.candidates_BN.numpy(), batch.mask_BN.numpy()
        score_bN = self.stage.score(batch).cpu().numpy().astype(np.float32)
        known_bN = mask_bN & (index_bN > 0) & (score_bN > NOTHING)
        lowest_b = np.where(known_bN, score_bN, np.inf).min(axis=1, initial=np.inf)
        lowest_b[np.isinf(lowest_b)] = 0.0
        score_bN = np.where(known_bN, score_bN, lowest_b[:, None])
        return list_column(pl.Series(score_bN[mask_bN]), count_b)

    def _still_shown(self, requests: pl.DataFrame, items_RN: Ints, counts: dict[str, int]) -> pl.DataFrame:
        """Of what was shown, and of its feedback, what is still a candidate."""
        shown, columns = ragged(requests["exposed"]), exposed_columns(requests)
        code_n, offered_R = self.vocab.encode(shown.flat), len(self.vocab)
        row_RN = np.broadcast_to(np.arange(len(items_RN))[:, None], items_RN.shape)
        offered = (row_RN * offered_R + items_RN)[items_RN > 0]
        kept_n = np.isin(shown.row * offered_R + code_n, offered)
        cut_R = np.bincount(shown.row[~kept_n], minlength=len(items_RN)) > 0
        left_R = np.bincount(shown.row[kept_n], minlength=len(items_RN))
        counts["held-out requests with a shown item that was not retrieved"] = int(cut_R.sum())
        counts["held-out requests with no shown item that was retrieved"] = int((cut_R & (left_R == 0)).sum())
        requests = keep(requests, columns, shown, kept_n)
        if "propensity" in requests.columns and "propensity" not in columns:
            whole = pl.Series(~cut_R)  # that of another list than what is left
            requests = requests.with_columns(propensity=pl.when(whole).then("propensity"))
        return requests

    # --- batches ---

    def _batch(self, rows: slice, candidates: pl.Series, there_b: Bools | None = None) -> ListBatch:
        """The chunk's requests (those of them that have candidates) as the stage reads them."""
        requests = self.lists.requests[rows].select("user_id", "timestamp", pl.col("^context_.*$"))
        frame = requests.with_columns(
            candidates.alias("candidates"), *history_columns(self.histories.rows(rows))
        )
        return self.stage.transform.batch(frame if there_b is None else frame.filter(pl.Series(there_b)))

    def _chunks(self) -> Iterator[slice]:
        total = self.lists.requests.height
        for start in range(0, total, CHUNK):
            rows = slice(start, min(start + CHUNK, total))
            yield rows
            self.done += rows.stop - rows.start
            if self.progress:
                self.progress(self.done, 2 * total)


def _ids(lists: Lists) -> Vocab:
    """Every id that the data set has."""
    given = [ragged(lists.requests[name]).flat for name in ("candidates", "exposed")]
    tables = [table["item_id"] for table in (lists.items, lists.interactions) if table is not None]
    return Vocab.of(*(ids.unique() for ids in (*tables, *given) if len(ids)))


def _available(items: pl.DataFrame | None, vocab: Vocab) -> Ints:
    """(V + 1,) seconds by code; 0 where nothing is said of an item."""
    available = np.zeros(len(vocab), np.int64)
    if items is not None and AVAILABLE in items.columns:
        available[vocab.encode(items["item_id"])] = seconds(items[AVAILABLE])
    return available


def _front(codes_RM: Ints, count: int) -> Ints:
    """(R, count) the first items of each row in their order, none behind them."""
    order_RM = np.argsort(codes_RM < 0, axis=1, kind="stable")[:, :count]
    front_RM = np.take_along_axis(codes_RM, order_RM, axis=1)
    return np.pad(front_RM, ((0, 0), (0, count - front_RM.shape[1])), constant_values=-1)
