"""The true value of lists, where a simulator made the data and knows it in closed form.

The manifest's ``truth`` names the simulator; ids lead from the prepared data's vocabulary to the simulator's
rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from slatewise.config import fingerprint
from slatewise.data.batch import ListBatch
from slatewise.data.features import FeatureTransform
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError, DataError
from slatewise.evaluation.ranking import rank_by_score
from slatewise.files import new_file
from slatewise.simulators import build_truth
from slatewise.types import Ranking

SHORT, FEW = 8, 10**13  # lists longer than this, and more of them, take branch and bound minutes a request
WIDTH = 64  # of the beam where the optimum is not asked for

Search = Callable[
    [Tensor, Tensor, int], tuple[Tensor, Tensor]
]  # users, candidates, length to lists and values


def searchable(candidates: int, length: int) -> bool:
    """True where the best list of a request can be found in reasonable time."""
    return length <= SHORT or math.perm(candidates, min(length, candidates)) <= FEW


@dataclass(frozen=True)
class Best:
    """The best list of each request, and its true value.

    Attributes:
        order_BL: candidates, best position first; 0 behind the end where a request has fewer than L.
        value_B: expected (weighted) feedback, float64.
    """

    order_BL: Tensor
    value_B: Tensor


class Truth:
    """True values of lists of one prepared data set, in units of its target (expected weighted feedback).

    Optima are searched once: they are kept in ``optimum-<split>-<fingerprint>.npy`` beside the data.
    """

    def __init__(self, data: PreparedData, *, shared: Path | None = None) -> None:
        """Build the simulator that the manifest names.

        Args:
            shared: folder for what depends on the simulator alone; default: the data's own.

        Raises:
            DataError: the data has no known truth.
        """
        if data.manifest.truth is None:
            raise DataError(f"{data.path} has no known true values: it does not come from a simulator.")
        self.store = build_truth(data.manifest.truth)
        self.length = data.schema.length
        self.kind = {name: weight for name, weight in data.manifest.target.items() if weight}
        transform = FeatureTransform.load(data.path / "transform")
        self._user_row = _rows(transform.users.vocab.ids, self.store.user_index)
        self._item_row = _rows(transform.items.vocab.ids, self.store.item_index)
        manifest = data.manifest
        self.cache = shared or data.path, fingerprint(manifest.truth, self.kind, self.length)
        self._cache = _Cache(
            data.path,
            fingerprint(manifest.fingerprint, manifest.truth, self.kind, self.length),
            self.length,
        )

    def value(self, batch: ListBatch, lists_BGL: Tensor, mask_BGL: Tensor | None = None) -> Tensor:
        """Expected weighted feedback of G lists a request, (B, G) float64 on the CPU.

        Positions outside ``mask_BGL`` (behind a short list's end) count nothing.

        Raises:
            DataError: a candidate or user is outside the vocabulary, so that its truth is not known.
        """
        user_B, item_BN = self._world_rows(batch)
        mask_BGL = None if mask_BGL is None else mask_BGL.cpu()
        value_BG: Tensor = self.store.value(user_B, item_BN, lists_BGL.cpu(), self.kind, mask_BGL)
        return value_BG.double().cpu()

    def alone(
        self, batch: ListBatch, item_BN: Tensor | None = None, kind: Mapping[str, float] | None = None
    ) -> Tensor:
        """Expected weighted feedback of items, each shown alone at the first position, (B, N) float64 on the CPU.

        Args:
            item_BN: vocabulary indices; None: the whole vocabulary, (B, I), with 0 for index 0.
            kind: weights of the feedback kinds; None: the data's target.

        Raises:
            DataError: an item or user is outside the vocabulary, so that its truth is not known.
        """
        whole = item_BN is None
        if item_BN is None:
            item_BN = torch.arange(len(self._item_row)).expand(batch.size, -1)
        row_BN, user_B = self._item_row[item_BN.cpu()], self.user_rows(batch)
        if not whole:
            _known(row_BN)
        value_BN = self.store.alone(user_B, row_BN.clamp(min=0), self.kind if kind is None else kind)
        return value_BN.double().cpu() * (row_BN >= 0)

    def of_ranking(self, batch: ListBatch, ranking: Ranking) -> Tensor:
        """True value of each request's list, (B,)."""
        return self.value(batch, ranking.order_BL[:, None], ranking.mask_BL[:, None])[:, 0]

    def optimum(self, batch: ListBatch, split: str) -> Best:
        """The list of the highest true value of each request; ``split`` is where the batch comes from.

        Raises:
            ConfigError: there are too many lists to search (see :func:`searchable`).
        """
        if not searchable(batch.num_candidates, self.length):
            raise ConfigError(
                f"the best list of {self.length} out of {batch.num_candidates} candidates cannot be searched; "
                "leave out the metrics and rows that need it (oracle-share, regret, optimum)."
            )
        row_B = batch.request_B.cpu().numpy()
        known_B = self._cache.known(split, row_B)
        if not known_B.all():
            missing = batch.take(torch.from_numpy(~known_B).to(batch.request_B.device))
            self._cache.put(split, row_B[~known_B], *self._search(missing, self._optimum))
        order, value = self._cache.get(split, row_B)
        device = batch.mask_BN.device
        return Best(torch.from_numpy(order).to(device), torch.from_numpy(value).to(device))

    def found(self, batch: ListBatch) -> Best:
        """The list that a beam and local search find for each request; searched anew each time."""

        def search(user_B: Tensor, item_BN: Tensor, length: int) -> tuple[Tensor, Tensor]:
            start_BL, _ = self.store.beam(user_B, item_BN, WIDTH, length, self.kind)
            return self.store.local_search(user_B, item_BN, start_BL, None, self.kind)

        order, value = self._search(batch, search)
        device = batch.mask_BN.device
        return Best(torch.from_numpy(order).to(device), torch.from_numpy(value).to(device))

    def standing(self, batch: ListBatch, value_BM: Tensor) -> Any:
        """Where M values stand among all lists of their request (see the simulator's ``standing``)."""
        user_B, item_BN = self._world_rows(batch)
        return self.store.standing(user_B, item_BN, value_BM, self.length, self.kind)

    def item_sort(self, batch: ListBatch) -> Ranking:
        """The best that a perfect model of single items can do: sort by an item's value, alone and first.

        What lies between this row and the optimum is what items do to one another in a list.
        """
        one_BN1 = torch.arange(batch.num_candidates).expand(batch.size, -1)[:, :, None]
        return rank_by_score(self.value(batch, one_BN1), batch.mask_BN.cpu(), self.length)

    def _optimum(self, user_B: Tensor, item_BN: Tensor, length: int) -> tuple[Tensor, Tensor]:
        return self.store.optimum(user_B, item_BN, length, self.kind)

    def _search(self, batch: ListBatch, search: Search) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        user_B, item_BN = self._world_rows(batch)
        count_B, size = batch.mask_BN.sum(1).cpu(), batch.size
        order, value = np.zeros((size, self.length), np.int64), np.zeros(size)
        for count in sorted(set(count_B.tolist())):
            # Real candidates come first, so a narrower request is a slice.
            rows_M, length = (count_B == count).nonzero().flatten(), min(count, self.length)
            best, worth = search(user_B[rows_M], item_BN[rows_M, :count], length)
            order[rows_M.numpy(), :length] = best.cpu().numpy()
            value[rows_M.numpy()] = worth.double().cpu().numpy()
        return order, value

    def _world_rows(self, batch: ListBatch) -> tuple[Tensor, Tensor]:
        item_BN = self._item_row[batch.candidates_BN.cpu()]
        _known(item_BN[batch.mask_BN.cpu()])
        return self.user_rows(batch), item_BN.clamp(min=0)

    def user_rows(self, batch: ListBatch) -> Tensor:
        """The simulator's row of each request's user, as he is at the request's time."""
        user_B = self._user_row[batch.user_B.cpu()]
        _known(user_B)
        return self.store.rows_at(user_B, batch.time_B.cpu())


def _known(rows: Tensor) -> None:
    if bool((rows < 0).any()):
        raise DataError(
            "a request has a user or item outside the vocabulary, so its true value is not known."
        )


def _rows(ids: pl.Series, index_of: Any) -> Tensor:
    """Vocabulary index to the simulator's row, (V,); -1 for index 0, the unknown one."""
    known: Tensor = index_of(ids.to_list()).cpu()
    return torch.cat([torch.tensor([-1]), known])


class _Cache:
    """Best lists and values by row of a split, in memory and on disk; NaN where not yet searched."""

    def __init__(self, folder: Path, key: str, length: int) -> None:
        self._folder, self._key, self._length = folder, key, length
        self._tables: dict[str, NDArray[np.float64]] = {}

    def known(self, split: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        table = self._table(split, int(rows.max(initial=-1)) + 1)
        known: NDArray[np.bool_] = ~np.isnan(table[rows, 0])
        return known

    def get(self, split: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        table = self._table(split, 0)[rows]
        return table[:, 1:].astype(np.int64), table[:, 0].copy()

    def put(
        self, split: str, rows: NDArray[np.int64], order: NDArray[np.int64], value: NDArray[np.float64]
    ) -> None:
        table = self._table(split, int(rows.max()) + 1)
        table[rows] = np.concatenate([value[:, None], order], axis=1)
        # a read-only data folder costs the search again next time, nothing else
        with suppress(OSError), new_file(self._path(split)) as partial, partial.open("wb") as sink:
            np.save(sink, table)

    def _table(self, split: str, rows: int) -> NDArray[np.float64]:
        if split not in self._tables:
            self._tables[split] = self._read(split)
        table = self._tables[split]
        if len(table) < rows:
            more = np.full((rows - len(table), 1 + self._length), np.nan)
            self._tables[split] = table = np.concatenate([table, more])
        return table

    def _read(self, split: str) -> NDArray[np.float64]:
        empty = np.zeros((0, 1 + self._length))
        try:
            table = np.load(self._path(split))
        except (OSError, ValueError):  # not there yet, or cut short: search again
            return empty
        fits = table.ndim == 2 and table.shape[1] == 1 + self._length
        return table.astype(np.float64) if fits else empty

    def _path(self, split: str) -> Path:
        return self._folder / f"optimum-{split}-{self._key}.npy"
