"""From a store's tables and strengths to the response model of given requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slatewise.errors import ConfigError
from slatewise.simulators._response import Response
from slatewise.simulators._world import World

if TYPE_CHECKING:
    from slatewise.simulators.store_v1 import Config

KINDS = ("click", "conversion", "value")

Target = str | Mapping[str, float]  # a kind, or a weight for each of several kinds


def affinity(config: Config, world: World, user_B: Tensor, item_BN: Tensor) -> Tensor:
    """Logit of a click on each candidate, alone at the first position: (B, N)."""
    match_BN = torch.zeros(item_BN.shape, dtype=torch.float64, device=item_BN.device)
    for d in range(
        config.latent
    ):  # a fixed order of additions: bit-equal for any batch size and thread count
        match_BN = match_BN + world.taste_UD[user_B, d][:, None] * world.item_ID[item_BN, d]
    logit_BN: Tensor = config.bias + config.affinity / config.latent**0.5 * match_BN
    logit_BN = logit_BN + config.quality * world.quality_I[item_BN]
    if world.mood_UK is not None:
        logit_BN = logit_BN + world.mood_UK[user_B].gather(1, world.category_I[item_BN])
    return logit_BN - config.price * world.price_sense_U[user_B][:, None] * world.log_price_I[item_BN]


def after_click(config: Config, world: World, user_B: Tensor, item_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of a conversion given a click, and the price paid then, both (B, N)."""
    sense_B1, log_price_BN = world.price_sense_U[user_B][:, None], world.log_price_I[item_BN]
    logit_BN = config.conversion_bias + config.conversion_quality * world.quality_I[item_BN]
    conversion_BN = torch.sigmoid(logit_BN - config.conversion_price * sense_B1 * log_price_BN)
    if world.sold_I is not None:
        conversion_BN = conversion_BN * world.sold_I[item_BN]
    return conversion_BN, log_price_BN.exp()


def alone(config: Config, world: World, user_B: Tensor, item_BN: Tensor, kind: Target) -> Tensor:
    """Expected feedback of each item shown alone at the first position, (B, N).

    Raises:
        ConfigError: as :func:`response`.
    """
    worth_BN = _worth(kind, *after_click(config, world, user_B, item_BN))
    return torch.sigmoid(affinity(config, world, user_B, item_BN)) * worth_BN


def response(config: Config, world: World, user_B: Tensor, item_BN: Tensor, kind: Target) -> Response:
    """The response model of B requests, with clicks worth what ``kind`` says.

    Raises:
        ConfigError: ``kind`` names no feedback of the store or has a negative weight.
    """
    category_BN = world.category_I[item_BN]
    return Response(
        base_BN=affinity(config, world, user_B, item_BN),
        weight_BN=_worth(kind, *after_click(config, world, user_B, item_BN)),
        category_BN=category_BN,
        log_price_BN=world.log_price_I[item_BN],
        lift_BNN=world.partner_KK[category_BN[:, :, None], category_BN[:, None, :]],
        fatigue_B=config.fatigue * world.variety_U[user_B],
        contrast_B=config.contrast * world.price_sense_U[user_B],
        position=config.position,
        decay=config.fatigue_decay,
        complement=config.complement,
    )


def _worth(kind: Target, conversion_BN: Tensor, price_BN: Tensor) -> Tensor:
    """Expected worth of a click on each candidate, (B, N)."""
    weights = {kind: 1.0} if isinstance(kind, str) else dict(kind)
    if not weights:
        raise ConfigError(f"the weights name no feedback; the store has {', '.join(KINDS)}.")
    for name, weight in weights.items():
        if name not in KINDS or not weight >= 0:
            raise ConfigError(
                f"the store has feedback {', '.join(KINDS)} with weights >= 0, got {name}: {weight}."
            )
    click, conversion, value = (weights.get(name, 0.0) for name in KINDS)
    return click + conversion_BN * (conversion + value * price_BN)
