"""``store-events``: the store of ``store-v1`` over time: users come back, change, and meet items that arrive.

Each user has one session in each slot of the span. A session is a moment of the user: his taste has drifted, he has
another category in mind (a Markov chain over partner categories), and he is on a page that raises some categories; he
is shown some content that is not sold, and then a list from a noisy retriever's candidates. All that a moment adds is
a row of the user axis of ``store-v1``'s world, so every closed form (values, optimum, sampling) is that one's.
Formulas and measured figures stand in ``docs/store.md``.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch import Tensor

from slatewise.errors import ConfigError, DataError
from slatewise.rng import child_seed, numpy_rng
from slatewise.simulators import _frames, _moments, _sampling, _world, store_v1
from slatewise.simulators._sampling import Requests


class Config(store_v1.Config):
    """The store's size, its response model, and what changes in it; the rest is as in ``store-v1``.

    Attributes:
        sessions, days: sessions of each user, one in each of as many slots of the span.
        organic: share of the items that are content: looked at, clicked, never sold nor in a list.
        content: impressions of content at the beginning of a session.
        arrivals: share of the other items that arrive along the way.
        late: share of those that come when the last slot begins: too late for anything to be learnt of them.
        drift: share of a taste's variance that is new in each session.
        intent: what the category that a user has in mind adds to its items' logit.
        stay, move: probability that the next session's category is the same, or one of its partners.
        pages, raised, page: number of pages, categories that each raises, and by how much.
    """

    items: int = 2000
    categories: int = 20
    pool: int | None = 80
    bias: float = -5.0
    user_noise: float = 1.5
    sessions: int = 20
    days: float = 60.0
    organic: float = 0.2
    content: int = 2
    arrivals: float = 0.3
    late: float = 0.33
    drift: float = 0.05
    intent: float = 3.0
    stay: float = 0.5
    move: float = 0.4
    pages: int = 6
    raised: int = 4
    page: float = 1.5

    def organic_items(self) -> int:
        """How many items are content."""
        return round(self.organic * self.items)

    def arriving_items(self) -> int:
        """How many of the others are not there at the start."""
        return round(self.arrivals * (self.items - self.organic_items()))

    def check(self) -> None:
        """Refuse sizes that make no store over time.

        Raises:
            ConfigError: naming the field, what came and what is allowed.
        """
        super().check()
        least = {"sessions": 1, "pages": 1, "content": 0, "raised": 0, "intent": 0, "page": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"store: {name} is {getattr(self, name)}, but must be at least {bound}.")
        shares = {
            name: getattr(self, name) for name in ("organic", "arrivals", "late", "drift", "stay", "move")
        }
        shares["stay + move"] = self.stay + self.move
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"store: {name} is {share}, but must be between 0 and 1.")
        if _moments.slot(self) < _moments.PAUSE * (self.content + 1):
            raise ConfigError(
                f"store: {self.sessions} sessions do not fit into {self.days} days; each needs "
                f"{_moments.PAUSE * (self.content + 1)} seconds. Give more days or fewer sessions."
            )
        self._check_shelf()

    def _check_shelf(self) -> None:
        sold = self.items - self.organic_items()
        if self.pool_size() * self.sessions > sold:
            raise ConfigError(
                f"store: {self.sessions} sessions with a pool of {self.pool_size()} items each, none twice, need more than "
                f"the {sold} items that are sold; give more items, a smaller pool or fewer sessions."
            )
        if self.content and self.organic_items() < self.pool_size():
            raise ConfigError(
                f"store: the retriever chooses content from {self.pool_size()} items, but {self.organic_items()} are content; "
                "give more of them or a smaller pool, or set content to 0."
            )


class EventStore(store_v1.Store):
    """A store over time. ``user_B`` in every method is a row of the sessions: ``user · sessions + session``.

    :meth:`rows_at` finds the row of a user at a time; a request's user is the session that it belongs to.
    """

    config: Config

    def __init__(self, config: Config | None = None, *, device: torch.device | str = "cpu") -> None:
        super().__init__(config or Config(), device=device)
        self._people = self._world.to("cpu")
        self._moments = _moments.create(self.config, self._people)
        self._world = _moments.world_of(self.config, self._people, self._moments).to(self.device)

    @property
    def sessions(self) -> int:
        """Number of sessions of all users."""
        return self.config.users * self.config.sessions

    def rows_at(self, user_B: Tensor, time_B: Tensor) -> Tensor:
        """The session that each user is in at a time (seconds): the last that has begun.

        Raises:
            DataError: a time before the user's first session, so that his state is not known.
        """
        user_B, time_B = user_B.cpu(), time_B.cpu()
        begun_BS = torch.from_numpy(self._moments.time_US)[user_B] <= time_B[:, None]
        early_B = ~begun_BS.any(dim=1)
        if bool(early_B.any()):
            row = int(early_B.nonzero()[0, 0])
            raise DataError(
                f"the store knows user u{int(user_B[row])} from {int(self._moments.time_US[user_B[row], 0])} on (seconds), "
                f"but a request is of {int(time_B[row])}; requests need their timestamp."
            )
        return (user_B * self.config.sessions + begun_BS.sum(dim=1) - 1).to(self.device)

    def on_offer(self, time_B: Tensor) -> Tensor:
        """True (B, I) for the items that are sold and have arrived at a time (seconds)."""
        arrival_I, organic_I = self._moments.arrival_I, self._moments.organic_I
        arrived_BI = torch.from_numpy(arrival_I) <= time_B.cpu()[:, None]
        return (arrived_BI & torch.from_numpy(~organic_I)).to(self.device)

    def requests(self, count: int, seed: int, *, start: int = 0) -> Requests:
        """``count`` sessions of all users in the order of time, from number ``start`` on, answered as in ``store-v1``.

        The retriever's pool is a part of the catalogue that it never comes back to with this user, less what has not
        arrived yet.

        Raises:
            ConfigError: there are not so many sessions, or too few items have arrived in one.
        """
        if not 0 <= start < start + count <= self.sessions:
            raise ConfigError(
                f"the store has {self.sessions} sessions; {count} from number {start} on were asked for."
            )
        order = np.argsort(self._moments.time_US, axis=None, kind="stable")[start : start + count]
        state_B, time_B = torch.from_numpy(order), torch.from_numpy(self._moments.time_US.ravel()[order])
        pool = torch.from_numpy(_moments.offers(self.config, self._moments, order))
        arrived = torch.from_numpy(self._moments.arrival_I)[pool] <= time_B[:, None]
        if (least := int(arrived.sum(dim=1).min())) < self.config.candidates:
            raise ConfigError(
                f"store: a session's pool of {self.config.pool_size()} items has only {least} that have arrived, for "
                f"{self.config.candidates} candidates; give a larger pool or fewer arrivals."
            )
        return self._answered(state_B, pool, time_B, _sampling.rngs(seed), arrived)

    def content_frame(self, seed: int) -> pl.DataFrame:
        """Every impression of content, as interactions: the retriever's best, shown one by one before each list."""
        count, at = self.config.content, np.argsort(self._moments.time_US, axis=None, kind="stable")
        organic, rng = np.flatnonzero(self._moments.organic_I), numpy_rng(seed, "content")
        wide = self.config.pool_size() if count else 0
        pool = torch.from_numpy(organic[_sampling.distinct(rng, len(at), wide, len(organic))])
        state_B = torch.from_numpy(at)
        score = self.affinity(state_B, pool).cpu() + self.config.retriever_noise * torch.from_numpy(
            rng.standard_normal(tuple(pool.shape))
        )
        kept = torch.from_numpy(_sampling.keep_best(score.numpy(), count, rng))
        item_M1, state_M = pool.gather(1, kept).view(-1, 1), state_B.repeat_interleave(count)
        ahead_C = _moments.PAUSE * np.arange(count, 0, -1)
        time_M = (self._moments.time_US.ravel()[at, None] - ahead_C).ravel()
        feedback = self.sample(state_M, item_M1, torch.zeros_like(item_M1), child_seed(seed, "clicks"))
        return pl.DataFrame(
            {
                "user_id": _frames.ids(state_M // self.config.sessions, "u"),
                "item_id": _frames.ids(item_M1[:, 0], "i"),
                "timestamp": time_M,
                **{f"feedback_{kind}": drawn[:, 0].cpu().numpy() for kind, drawn in vars(feedback).items()},
                "context_page": self._pages(state_M),
            }
        )

    # --- tables, in ids ---

    def users_frame(self) -> pl.DataFrame:
        """``user_id`` and what a ranker may know of each user as he began, with ``user_noise``."""
        return _frames.users(_world.observe(self._people, self.config))

    def items_frame(self) -> pl.DataFrame:
        """``item_id``, what a ranker may know of each item, ``organic`` and ``available_from``; content has no price."""
        organic = pl.Series("organic", self._moments.organic_I)
        arrival = pl.Series("available_from", self._moments.arrival_I)
        price = pl.when(organic).then(None).otherwise(pl.col("log_price")).alias("log_price")
        return super().items_frame().with_columns(price, organic, arrival)

    def requests_frame(self, drawn: Requests, *, first: int = 0) -> pl.DataFrame:
        """What a ranker is asked, in the log schema, with the session's ``context_page``."""
        users = _frames.ids(drawn.user_B // self.config.sessions, "u")
        frame = super().requests_frame(drawn, first=first)
        return frame.with_columns(user_id=users, context_page=self._pages(drawn.user_B))

    def _pages(self, state_B: Tensor) -> pl.Series:
        return _frames.ids(torch.from_numpy(self._moments.page_US.ravel()[state_B.cpu()]), "p")


def create(config: Config) -> EventStore:
    """The store over time of ``config``."""
    return EventStore(config)
