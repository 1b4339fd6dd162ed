"""The store over time: every user's sessions as a log of lists, and all that he was shown as interactions.

Nothing is read from disk: the same options give the same log. Each session is a request (12 candidates, a list of 6,
clicks, sales, money, the page it was on). ``interactions`` are the shown items of all lists and the content shown
before them, one row an impression, in the order of time. Some items arrive on the way, the last of them so late that
nothing can be learnt of them. Because the simulator knows the value of every item and list at any time, the log names
it (``truth``). See ``docs/store.md``.

Licence: made here; no outside source.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slatewise.config import build, to_plain
from slatewise.data.history import exposure_interactions
from slatewise.data.log import Log
from slatewise.rng import child_seed
from slatewise.simulators import store_events

DEFAULT_PROTOCOL = "catalogue-v1"


class Config(store_events.Config):
    """Every option of the store over time.

    Attributes:
        seed: of the candidates, the logging policy's choices and the feedback; the store and its users' sessions stay
            the same.
    """

    seed: int = 0


def load(config: Config, source: Path | None = None) -> Log:
    """Simulate the log.

    Args:
        config: the store's options.
        source: not used; there is no file to read.

    Returns:
        Requests in the log schema with ``context_page``, ``propensity`` and ``feedback_click``,
        ``feedback_conversion`` and ``feedback_value``; interactions with the same; users and items with what a
        ranker may know of them, ``organic`` for content, ``available_from`` for what arrives; the truth.

    Raises:
        ConfigError: a size is out of range.
    """
    plain = to_plain(config)
    seed = plain.pop("seed")
    store = store_events.EventStore(build(store_events.Config, plain))
    drawn = store.requests(store.sessions, child_seed(seed, "requests"))
    requests = store.log_frame(drawn, child_seed(seed, "feedback"))
    shown = exposure_interactions(requests, {}).drop("feedback")
    content = store.content_frame(child_seed(seed, "content")).select(shown.columns)
    interactions = pl.concat([shown, content], how="vertical_relaxed").sort("timestamp", maintain_order=True)
    items = store.items_frame()
    return Log(
        requests=requests,
        users=store.users_frame(),
        items=items,
        interactions=interactions,
        counts={
            "requests": requests.height,
            "impressions in lists": shown.height,
            "impressions of content": content.height,
            "users": store.config.users,
            "items": store.config.items,
            "items that are content": int(items["organic"].sum()),
        },
        truth={"simulator": "store-events", **to_plain(store.config)},
    )
