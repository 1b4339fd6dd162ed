"""The tables of a simulated store: who shops, what is sold, and what the ranker is allowed to see of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slatewise.rng import numpy_rng

if TYPE_CHECKING:
    from slatewise.simulators.store_v1 import Config


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Truth (float64) about U users, I items and K categories.

    Attributes:
        taste_UD: latent vectors, N(0, 1) in each coordinate.
        item_ID: the same; items of a category share a part of theirs.
        price_sense_U: ψ, how much prices matter, U(.3, 1.7).
        variety_U: φ, how much a repeated category tires, U(.5, 1.5).
        quality_I, log_price_I: N(0, 1).
        category_I: category of each item.
        partner_KK: True at [k, c] where an item of category k earlier in the list lifts one of category c.
        mood_UK: what the moment adds to the logit of each category; None: nothing.
        sold_I: False for items that are only looked at: a click on them never becomes a sale; None: all are sold.
    """

    taste_UD: Tensor
    price_sense_U: Tensor
    variety_U: Tensor
    item_ID: Tensor
    quality_I: Tensor
    log_price_I: Tensor
    category_I: Tensor
    partner_KK: Tensor
    mood_UK: Tensor | None = None
    sold_I: Tensor | None = None

    def to(self, device: torch.device | str) -> World:
        """The same world on ``device``."""
        return replace(
            self, **{name: table.to(device) for name, table in vars(self).items() if table is not None}
        )


def create(config: Config) -> World:
    """The world of ``config``; each table has its own generator, so no table depends on another's size."""
    users, items, width, kinds = config.users, config.items, config.latent, config.categories

    def rng(name: str) -> np.random.Generator:
        return numpy_rng(config.world_seed, "world", name)

    category_I = rng("category").integers(0, kinds, items)
    centre_ID = rng("centre").standard_normal((kinds, width))[category_I]
    own_ID = rng("item").standard_normal((items, width))
    return World(
        taste_UD=torch.from_numpy(rng("user").standard_normal((users, width))),
        price_sense_U=torch.from_numpy(rng("price_sense").uniform(0.3, 1.7, users)),
        variety_U=torch.from_numpy(rng("variety").uniform(0.5, 1.5, users)),
        item_ID=torch.from_numpy(_blend(centre_ID, own_ID, config.category_share)),
        quality_I=torch.from_numpy(rng("quality").standard_normal(items)),
        log_price_I=torch.from_numpy(rng("price").standard_normal(items)),
        category_I=torch.from_numpy(category_I),
        partner_KK=torch.from_numpy(_partners(config)),
    )


def _blend(common: Floats, own: Floats, share: float) -> Floats:
    """A sum of variance 1 in which ``common`` has ``share`` of the variance."""
    blend: Floats = np.sqrt(share) * common + np.sqrt(1.0 - share) * own
    return blend


def _partners(config: Config) -> NDArray[np.bool_]:
    """Each category's ``partners`` distinct other categories, as a boolean matrix."""
    draw_KK = numpy_rng(config.world_seed, "world", "partners").random((config.categories, config.categories))
    np.fill_diagonal(draw_KK, np.inf)
    rank_KK = draw_KK.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return np.asarray(rank_KK < config.partners)


@dataclass(frozen=True)
class Observed:
    """What a ranker sees of the world (float64): the same tables with noise; see ``Config.*_noise``."""

    taste_UD: Tensor
    price_sense_U: Tensor
    variety_U: Tensor
    item_ID: Tensor
    quality_I: Tensor


def observe(world: World, config: Config) -> Observed:
    """Add the observation noise of ``config`` (sd ``user_noise``, ``item_noise``, ``quality_noise``)."""

    def noisy(table: Tensor, sd: float, name: str) -> Tensor:
        noise = numpy_rng(config.world_seed, "observed", name).standard_normal(tuple(table.shape))
        return table.cpu() + sd * torch.from_numpy(noise)

    return Observed(
        taste_UD=noisy(world.taste_UD, config.user_noise, "taste"),
        price_sense_U=noisy(world.price_sense_U, config.user_noise, "price_sense"),
        variety_U=noisy(world.variety_U, config.user_noise, "variety"),
        item_ID=noisy(world.item_ID, config.item_noise, "item"),
        quality_I=noisy(world.quality_I, config.quality_noise, "quality"),
    )
