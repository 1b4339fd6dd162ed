"""``catalogue-share``: a list's true value over that of the best list found in the whole catalogue at its time.

The catalogue is what a simulator had on offer when the request came: what had arrived, and is no content. So the metric
sees what retrieval loses and what ranking loses alike; ``oracle-share`` sees the request's own candidates alone.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.evaluation.truth import Truth
from slatewise.files import new_file
from slatewise.simulators._model import Target
from slatewise.simulators.catalogue import best_of_catalogue
from slatewise.simulators.store_v1 import Store
from slatewise.types import Ranking

NAME = "catalogue-share"


class CatalogueShare:
    """Grades lists by the best list of the catalogue."""

    def __init__(self, truth: Truth) -> None:
        self._truth, self._best = truth, BestValues(truth.store, truth.length, truth.kind, truth.cache)

    def measure(self, batch: ListBatch, rankings: dict[str, Ranking]) -> dict[str, dict[str, Tensor]]:
        """The share of every policy's list, (B,) float64."""
        best_B = self._best.of(self._truth.user_rows(batch), batch.time_B.cpu())
        return {
            name: {NAME: self._truth.of_ranking(batch, ranking) / best_B}
            for name, ranking in rankings.items()
        }


class BestValues:
    """The values of the best lists found, searched once: kept in ``catalogue-<fingerprint>.npy`` of a folder.

    They depend on the simulator, the length, the target, the user's row and the time, and on nothing else of a data set.
    So data sets whose requests are the same may share a folder.
    """

    def __init__(self, store: Store, length: int, kind: Target, cache: tuple[Path, str]) -> None:
        folder, key = cache
        self._store, self._length, self._kind = store, length, kind
        self._path = folder / f"catalogue-{key}.npy"
        self._known = {(int(user), int(time)): value for user, time, value in _read(self._path)}

    def of(self, user_B: Tensor, time_B: Tensor) -> Tensor:
        """The value of each request's best list, (B,) float64.

        Args:
            user_B: rows of the store's users at the time.   time_B: seconds.

        Raises:
            DataError: fewer items than a list has places are on offer at a time.
        """
        keys = list(zip(user_B.tolist(), time_B.tolist(), strict=True))
        if missing := sorted(set(keys) - set(self._known)):
            user_M, time_M = torch.tensor(missing).T
            _, value_M = best_of_catalogue(self._store, user_M, time_M, self._length, self._kind)
            self._known |= dict(zip(missing, value_M.tolist(), strict=True))
            self._keep()
        return torch.tensor([self._known[key] for key in keys], dtype=torch.float64)

    def _keep(self) -> None:
        table = np.array([(*key, value) for key, value in sorted(self._known.items())])
        # a read-only folder costs the search again next time, nothing else
        with suppress(OSError), new_file(self._path) as partial, partial.open("wb") as sink:
            np.save(sink, table)


def _read(path: Path) -> NDArray[np.float64]:
    nothing = np.zeros((0, 3))
    try:
        table = np.load(path)
    except (OSError, ValueError):  # not there yet, or cut short: search again
        return nothing
    return table.astype(np.float64) if table.ndim == 2 and table.shape[1] == 3 else nothing
