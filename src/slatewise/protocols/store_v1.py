"""``store-v1``: the simulated store's log as it is; candidates, lists and split come from the simulator."""

from __future__ import annotations

import msgspec

from slatewise.config import Frozen
from slatewise.data.log import Lists, Log
from slatewise.errors import ConfigError, DataError


class Config(Frozen):
    """Options.

    Attributes:
        length: L, the list to write; at most the length of the logged lists.
        history: H; the last exposures of the user's earlier requests, each with its feedback. None by default: the
            store's users do not change by what they saw before, so history is only noise to a model.
        target: weight of each feedback kind (``click``, ``conversion``, ``value``) in a list's value.
    """

    length: int = 6
    history: int = 0
    target: dict[str, float] = msgspec.field(default_factory=lambda: {"click": 1.0})


def build(config: Config, log: Log, seed: int) -> Lists:
    """Pass the log on; nothing is sampled, so ``seed`` changes nothing.

    Raises:
        DataError: the log is not a simulated one (it has no requests, no ``split`` or no truth).
        ConfigError: ``length`` is more than the logged lists have.
    """
    requests = log.requests
    if requests is None or log.truth is None or "split" not in requests.columns:
        raise DataError("protocol store-v1 needs the log of a simulated store; prepare the data set 'store'.")
    longest = int(requests["exposed"].list.len().max() or 0)  # type: ignore[arg-type]
    if not 1 <= config.length <= longest:
        raise ConfigError(
            f"store-v1: length is {config.length}, but the logged lists have 1 to {longest} items."
        )
    return Lists(
        requests=requests,
        users=log.users,
        items=log.items,
        interactions=log.interactions,  # None: prepare takes the exposures of the user's earlier requests
        item_vectors=None,
        length=config.length,
        history=config.history,
        target=config.target,
        unexposed_is_negative=False,
        counts=log.counts,
        truth=log.truth,
    )
