"""A closed loop with a simulated store: requests out, lists in, feedback back, in the manner of Gymnasium."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import torch
from torch import Tensor

from slatewise.errors import DataError
from slatewise.rng import child_seed
from slatewise.simulators import _frames
from slatewise.simulators._model import Target
from slatewise.simulators._sampling import Requests
from slatewise.simulators.store_v1 import Store

Info = dict[str, Any]


class StoreEnv:
    """A store that asks for lists, batch by batch. Gymnasium's signatures, without the package.

    An observation is a frame in the log schema without the answer: ``request_id, user_id, timestamp,
    candidates, candidate_scores``. It never terminates; it is truncated after ``batches`` batches, if given.

    Args:
        store: the world.
        batch_size: requests an observation.
        seed: of the requests and the feedback, until ``reset`` gives another.
        kind: what the reward counts: a feedback kind or weights of several.
        batches: observations an episode; None goes on for ever.
    """

    def __init__(
        self,
        store: Store,
        batch_size: int = 256,
        seed: int = 0,
        kind: Target = "click",
        batches: int | None = None,
    ) -> None:
        self.store, self.batch_size, self.kind, self.batches = store, batch_size, kind, batches
        self._seed, self._step = seed, 0
        self._asked: Requests | None = None

    def reset(self, seed: int | None = None) -> tuple[pl.DataFrame, Info]:
        """Start again; the same seed brings the same requests. The first observation and an empty info."""
        self._seed, self._step = self._seed if seed is None else seed, 0
        return self._ask(), {}

    def step(self, lists: Tensor | Sequence[Sequence[str]]) -> tuple[pl.DataFrame, Tensor, bool, bool, Info]:
        """Show one list a request.

        Args:
            lists: (B, L), indices into the observation's candidates or item ids, best first.

        Returns:
            The next observation; the reward (B,), the lists' drawn (weighted) feedback; terminated (False);
            truncated; and info: ``feedback`` (each kind at every position), ``expected_value`` (B,) of the
            lists, and ``log``, the answered requests in the log schema, to append to a log.

        Raises:
            DataError: ``reset`` was not called, or the lists are not distinct candidates of the requests.
        """
        asked = self._open_requests()
        lists_BL = self._indices(lists, asked)
        feedback = self.store.sample(
            asked.user_B, asked.item_BN, lists_BL, child_seed(self._seed, "feedback", self._step)
        )
        shown = _frames.shown(asked.item_BN.gather(1, lists_BL), vars(feedback))
        info = {
            "feedback": feedback,
            "expected_value": self.store.value(asked.user_B, asked.item_BN, lists_BL[:, None], self.kind)[
                :, 0
            ],
            "log": self._frame(asked).with_columns(**shown),
        }
        weights = {self.kind: 1.0} if isinstance(self.kind, str) else self.kind
        reward_BL = torch.stack([weight * getattr(feedback, name) for name, weight in weights.items()]).sum(
            dim=0
        )
        self._step += 1
        truncated = self.batches is not None and self._step >= self.batches
        return self._ask(), reward_BL.sum(dim=1), False, truncated, info

    def _ask(self) -> pl.DataFrame:
        seed, start = child_seed(self._seed, "requests", self._step), self._step * self.batch_size
        self._asked = self.store.requests(self.batch_size, seed, start=start)
        return self._frame(self._asked)

    def _frame(self, asked: Requests) -> pl.DataFrame:
        return self.store.requests_frame(asked, first=self._step * self.batch_size)

    def _open_requests(self) -> Requests:
        if self._asked is None:
            raise DataError("the store has asked nothing yet; call reset() before step().")
        return self._asked

    def _indices(self, lists: Tensor | Sequence[Sequence[str]], asked: Requests) -> Tensor:
        given = lists.to(self.store.device) if isinstance(lists, Tensor) else self._find(lists, asked)
        count = asked.item_BN.shape[1]
        if (
            given.dim() != 2
            or len(given) != asked.size
            or given.is_floating_point()
            or not 1 <= given.shape[1] <= count
        ):
            raise DataError(
                f"step needs one list of 1 to {count} candidates for each of {asked.size} requests, "
                f"got {tuple(given.shape)} of {given.dtype}."
            )
        sorted_BL = given.long().sort(dim=1).values
        wrong_B = (
            (sorted_BL[:, 0] < 0) | (sorted_BL[:, -1] >= count) | (sorted_BL.diff(dim=1) == 0).any(dim=1)
        )
        if bool(wrong_B.any()):
            row = int(wrong_B.nonzero()[0, 0])
            raise DataError(
                f"row {row}: the list {given[row].tolist()} is not made of distinct indices below {count}."
            )
        return given.long()

    def _find(self, lists: Sequence[Sequence[str]], asked: Requests) -> Tensor:
        """Item ids to indices into the candidate axis."""
        widths = {len(row) for row in lists}
        if len(widths) != 1 or len(lists) != asked.size:
            raise DataError(
                f"step needs {asked.size} lists of one length, got {len(lists)} of lengths {sorted(widths)}."
            )
        item_BL = self.store.item_index([item for row in lists for item in row]).view(len(lists), -1)
        match_BLN = item_BL[:, :, None] == asked.item_BN[:, None, :]
        if not bool(match_BLN.any(dim=2).all()):
            row, place = (int(i) for i in (~match_BLN.any(dim=2)).nonzero()[0])
            raise DataError(f"row {row}: item '{lists[row][place]}' is not among the request's candidates.")
        return match_BLN.int().argmax(dim=2)
