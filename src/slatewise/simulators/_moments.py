"""What changes in a store over time: each user's sessions (when, with what taste and intent, on which page), and
which items are there.

Everything follows from the config: the world's seed draws it once, and the log's seed has no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slatewise.rng import numpy_rng
from slatewise.simulators._sampling import START, Floats, Ints
from slatewise.simulators._world import World

if TYPE_CHECKING:
    from slatewise.simulators.store_events import Config

DAY = 86_400
PAUSE = 60  # seconds between one impression of content and what follows


@dataclass(frozen=True)
class Moments:
    """Each of U users' S sessions, oldest first, and what stands on the shelf.

    Attributes:
        time_US: seconds, increasing along S.   intent_US: the category that the user has in mind.
        page_US: the page that the session is on.   taste_USD: the user's taste then.
        page_PK: True where a page raises a category.
        organic_I: content that is not sold.   arrival_I: seconds from which on an item is there.
    """

    time_US: Ints
    intent_US: Ints
    page_US: Ints
    taste_USD: Floats
    page_PK: NDArray[np.bool_]
    organic_I: NDArray[np.bool_]
    arrival_I: Ints


def create(config: Config, people: World) -> Moments:
    """The moments of ``config``; ``people`` is the world as it begins."""

    def rng(name: str) -> np.random.Generator:
        return numpy_rng(config.world_seed, "moments", name)

    organic_I = rng("organic").permutation(config.items) < config.organic_items()
    return Moments(
        time_US=_times(config, rng("time")),
        intent_US=_intents(config, people.partner_KK.numpy(), rng("intent")),
        page_US=rng("page").integers(0, config.pages, (config.users, config.sessions)),
        taste_USD=_tastes(config, people.taste_UD.numpy(), rng("drift")),
        page_PK=rng("raised").random((config.pages, config.categories)).argsort(1).argsort(1) < config.raised,
        organic_I=organic_I,
        arrival_I=_arrivals(config, organic_I, rng("arrival")),
    )


def world_of(config: Config, people: World, moments: Moments) -> World:
    """The world with one row of the user axis for each session: row ``user · S + session``."""
    intent_RK = np.eye(config.categories)[moments.intent_US.ravel()]
    mood_RK = config.intent * intent_RK + config.page * moments.page_PK[moments.page_US.ravel()]

    def each_session(table_U: Tensor) -> Tensor:
        return table_U.repeat_interleave(config.sessions)

    return replace(
        people,
        taste_UD=torch.from_numpy(moments.taste_USD.reshape(-1, config.latent)),
        price_sense_U=each_session(people.price_sense_U),
        variety_U=each_session(people.variety_U),
        log_price_I=torch.where(torch.from_numpy(moments.organic_I), 0.0, people.log_price_I),
        mood_UK=torch.from_numpy(mood_RK),
        sold_I=torch.from_numpy(~moments.organic_I),
    )


def offers(config: Config, moments: Moments, state_B: Ints) -> Ints:
    """The items that the retriever looks at in each session, (B, pool): no item in two sessions of a user.

    A user's sessions are blocks of one permutation of what is sold, k to (a·k + b) mod n, with a and b his own.
    """
    sold = np.flatnonzero(~moments.organic_I)
    rng, steps = numpy_rng(config.world_seed, "moments", "offers"), np.arange(1, len(sold) + 1)
    step_U = rng.choice(steps[np.gcd(steps, len(sold)) == 1], config.users)
    first_U = rng.integers(0, len(sold), config.users)
    user_B, session_B = np.divmod(state_B, config.sessions)
    place_BP = session_B[:, None] * config.pool_size() + np.arange(config.pool_size())
    return sold[(step_U[user_B, None] * place_BP + first_U[user_B, None]) % len(sold)]


def slot(config: Config) -> float:
    """Seconds that each user has one session in."""
    return config.days * DAY / config.sessions


def _times(config: Config, rng: np.random.Generator) -> Ints:
    """One session in each slot of the span, at a random time, late enough for the content shown before it."""
    before = PAUSE * config.content
    draw_US = rng.random((config.users, config.sessions))
    offset_US = before + draw_US * (slot(config) - before)
    return START + np.floor(np.arange(config.sessions) * slot(config) + offset_US).astype(np.int64)


def _intents(config: Config, partner_KK: NDArray[np.bool_], rng: np.random.Generator) -> Ints:
    """A Markov chain a user: the category stays, moves to a partner of it, or jumps anywhere."""
    draw_US = rng.random((config.users, config.sessions))
    anywhere_US = rng.integers(0, config.categories, draw_US.shape)
    partner_USK = rng.random((*draw_US.shape, config.categories))
    intent_US = anywhere_US.copy()
    for session in range(1, config.sessions):
        last_U, draw_U = intent_US[:, session - 1], draw_US[:, session]
        partner_U = np.where(partner_KK[last_U], partner_USK[:, session], -1.0).argmax(1)
        moved_U = np.where(draw_U < config.stay + config.move, partner_U, anywhere_US[:, session])
        intent_US[:, session] = np.where(draw_U < config.stay, last_U, moved_U)
    return intent_US


def _tastes(config: Config, taste_UD: Floats, rng: np.random.Generator) -> Floats:
    """A walk from the taste at the start; ``drift`` is the share of its variance that is new in each session."""
    step_USD = rng.standard_normal((config.users, config.sessions, config.latent))
    taste_USD = np.empty_like(step_USD)
    taste_USD[:, 0] = taste_UD
    for session in range(1, config.sessions):
        kept = np.sqrt(1 - config.drift) * taste_USD[:, session - 1]
        taste_USD[:, session] = kept + np.sqrt(config.drift) * step_USD[:, session]
    return taste_USD


def _arrivals(config: Config, organic_I: NDArray[np.bool_], rng: np.random.Generator) -> Ints:
    """When each item comes: content and most others are there at the start, some come along the way, and the last of
    them when the last slot begins."""
    come = rng.permutation(np.flatnonzero(~organic_I))[: config.arriving_items()]
    last = (config.sessions - 1) * slot(config)
    when = np.ceil(rng.random(len(come)) * last)
    when[: round(config.late * len(come))] = np.ceil(last)
    arrival_I = np.full(config.items, START)
    arrival_I[come] += when.astype(np.int64)
    return arrival_I
