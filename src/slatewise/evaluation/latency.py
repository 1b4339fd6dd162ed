"""How long a policy takes: in batches, and for one request at a time on one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from slatewise.data.batch import ListBatch
from slatewise.types import Ranking

Rank = Callable[[ListBatch], Ranking]
WARM_UP = 5  # unmeasured calls before the first measured one


def timed_rank(rank: Rank, batch: ListBatch) -> tuple[Ranking, float]:
    """The ranking on the batch's device, and the seconds it took (the copy waits for an accelerator)."""
    start = time.perf_counter()
    with torch.inference_mode():
        ranking = rank(batch)
        device = batch.mask_BN.device
        ranking = Ranking(
            ranking.order_BL.to(device), ranking.mask_BL.to(device), ranking.score_BN.to(device)
        )
    return ranking, time.perf_counter() - start


def single_latency(rank: Rank, batches: Sequence[ListBatch]) -> float:
    """Median milliseconds of the batches (one request each) on one thread, after a few unmeasured calls."""
    with one_thread():
        for batch in batches[:WARM_UP]:
            timed_rank(rank, batch)
        return 1000 * statistics.median(timed_rank(rank, batch)[1] for batch in batches)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread in torch and in BLAS, as a serving worker has; what was before comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
