"""The simulated store's log: requests, a randomised policy's lists and propensities, clicks, sales, money.

Nothing is read from disk: the same options give the same log. Because the simulator knows every list's true
value, the log names it (``truth``), and evaluation says "% of optimum". See ``docs/store.md``.

Licence: made here; no outside source.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slatewise.config import build, to_plain
from slatewise.data.log import Log
from slatewise.errors import ConfigError
from slatewise.rng import child_seed
from slatewise.simulators import store_v1

DEFAULT_PROTOCOL = "store-v1"


class Config(store_v1.Config):
    """How many requests, and every option of the store (``world_seed`` is the store's, ``seed`` the log's).

    Attributes:
        requests, validation, test: requests of each split, one after the other in time, each with its own
            generators. ``requests`` are the training logs.
        seed: of the requests, the logging policy's choices and the feedback; the store stays the same.
    """

    requests: int = 40_000
    validation: int = 2_000
    test: int = 1_000
    seed: int = 0


def load(config: Config, source: Path | None = None) -> Log:
    """Simulate the log.

    Args:
        config: sizes and the store's options.
        source: not used; there is no file to read.

    Returns:
        Requests in the log schema with ``split``, ``propensity`` and ``feedback_click``,
        ``feedback_conversion`` and ``feedback_value``; users and items with what a
        ranker may know of them; the truth.

    Raises:
        ConfigError: a size is out of range.
    """
    plain = to_plain(config)
    sizes = {"train": plain.pop("requests"), "validation": plain.pop("validation"), "test": plain.pop("test")}
    seed = plain.pop("seed")
    for split, size in sizes.items():
        if size < 1:
            raise ConfigError(
                f"store: {'requests' if split == 'train' else split} is {size}, but must be at least 1."
            )
    store = store_v1.Store(build(store_v1.Config, plain))
    frames, first = [], 0
    for split, size in sizes.items():
        drawn = store.requests(size, child_seed(seed, split, "requests"), start=first)
        frame = store.log_frame(drawn, child_seed(seed, split, "feedback"), first=first)
        frames.append(frame.with_columns(split=pl.lit(split)))
        first += size
    return Log(
        requests=pl.concat(frames),
        users=store.users_frame(),
        items=store.items_frame(),
        counts={"requests": first, "users": store.config.users, "items": store.config.items},
        truth={"simulator": "store-v1", **to_plain(store.config)},
    )
