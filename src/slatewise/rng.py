"""One seed in, named child generators out, so that adding a consumer never changes another one's numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def child_seed(seed: int, *path: str | int) -> int:
    """A 63-bit seed that depends on ``seed`` and the path of names, e.g. ``child_seed(7, "groups", step)``."""
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_rng(seed: int, *path: str | int) -> np.random.Generator:
    """A NumPy generator for the named child of ``seed``."""
    return np.random.default_rng(child_seed(seed, *path))


def torch_rng(seed: int, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on ``device`` for the named child of ``seed``."""
    return torch.Generator(device=device).manual_seed(child_seed(seed, *path))
