"""Seconds, measured turn by turn so that a busy neighbour slows every side alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Work = Callable[[], object]
MATMUL, PRODUCTS = 1024, 10


def seconds_of(work: Work, device: str = "cpu") -> float:
    """How long one call takes; on an accelerator, until its last kernel has ended."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def median_seconds(
    sides: Mapping[str, Work],
    rounds: int,
    device: str = "cpu",
    *,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Median seconds of each side over ``rounds``, in each of which every side has its turn.

    ``tick`` is called after each round. Warm-up is the caller's, since one side may take a minute.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            taken[name].append(seconds_of(work, device))
        tick()
    return {name: statistics.median(values) for name, values in taken.items()}


def rounds_for(sides: Mapping[str, Work], budget: float, device: str = "cpu") -> int:
    """An odd number of rounds, 3 to 101, for ``budget`` seconds: one warm-up and one timed call of each."""
    for work in sides.values():
        work()
    once = sum(seconds_of(work, device) for work in sides.values())
    return min(max(int(budget / once), 3), 101) | 1


def matmul_work(device: str = "cpu") -> tuple[Work, float]:
    """Large fp32 matrix products, the machine's best, and their floating point operations."""
    a, b = torch.randn(2, MATMUL, MATMUL, device=device)
    out = torch.empty_like(a)
    return lambda: [torch.mm(a, b, out=out) for _ in range(PRODUCTS)], 2.0 * MATMUL**3 * PRODUCTS


class _Operations(TorchDispatchMode):
    """Adds up torch's own formulas; its FlopCounterMode fails on a step that changes gradient modes."""

    total: float

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def operations(work: Work) -> float:
    """Floating point operations of the matrix products (attention included) in one call."""
    # The fused attention of a CPU has no formula, so attention is taken apart.
    with sdpa_kernel(SDPBackend.MATH), _Operations() as counted:
        work()
    return counted.total


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
