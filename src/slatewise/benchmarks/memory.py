"""Peak memory of one piece of work, in a process of its own.

On CPU: the peak of resident memory during the work minus resident memory before it, both from Linux's
``/proc/self`` (``ru_maxrss`` cannot be set back, and a child inherits its parent's). It counts everything:
activations, gradients, optimizer state, scratch, what the allocator holds back. On CUDA: the allocator's own
peak minus what was allocated before.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import torch

from slatewise.benchmarks.timing import Work
from slatewise.errors import ConfigError

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MEMORY_WORDS = ("memory", "alloc")  # what the errors of exhausted allocators have in common


def peak_apart(
    make: Callable[..., Work], *arguments: object, device: str, threads: int, limit: int
) -> int | None:
    """Peak bytes that ``make(*arguments)()`` adds to what ``make`` itself has built, in a fresh process.

    Args:
        make: builds model and batch and returns the work; a function of a module, so that it can be sent.
        limit: bytes that the work may add; None comes back if it needs more.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_peak, make, arguments, device, threads, limit).result()
        except BrokenProcessPool:  # the allocator ended the process
            return None


def _peak(
    make: Callable[..., Work], arguments: tuple[object, ...], device: str, threads: int, limit: int
) -> int | None:
    torch.set_num_threads(threads)
    work = make(*arguments)
    _guard(device, limit)
    try:
        return peak_here(work, device)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or any(word in str(error).lower() for word in MEMORY_WORDS):
            return None
        raise


def peak_here(work: Work, device: str = "cpu") -> int:
    """Peak bytes that one call of ``work`` adds, in this process.

    Raises:
        ConfigError: resident memory cannot be read here (CPU needs Linux).
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    if not CLEAR.exists():
        raise ConfigError(
            "peak memory on cpu is read from /proc, which is not here; run on Linux or on cuda."
        )
    with suppress(
        AttributeError, OSError
    ):  # glibc's: what was freed and kept would be used again, and not counted
        ctypes.CDLL(None).malloc_trim(0)
    CLEAR.write_text("5")  # sets the high-water mark back to what is resident now
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _guard(device: str, limit: int) -> None:
    """Let the work fail rather than the machine."""
    if device.startswith("cuda"):
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    else:
        most = _status("VmData") + limit
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _status(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
