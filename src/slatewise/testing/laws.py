"""What all checks share: how a law is stated, and how a plug-in and its options are found."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from slatewise.config import build
from slatewise.names import plugin, public_name


class LawBroken(AssertionError):
    """A plug-in does not keep a law; the sentence says which."""


def require(holds: bool | Tensor, sentence: str) -> None:
    """Raise if the law does not hold.

    Raises:
        LawBroken: ``holds`` is False.
    """
    if not bool(holds):
        raise LawBroken(sentence)


def find(room: str, name: str | ModuleType, *verbs: str) -> tuple[str, ModuleType]:
    """Public name and module of a plug-in, which must have ``Config`` and the room's verbs.

    Raises:
        LawBroken: something is missing.   ConfigError: there is no plug-in of this name.
    """
    module = name if isinstance(name, ModuleType) else plugin(room, name)
    called = public_name(module.__name__.rsplit(".", 1)[-1])
    for part in ("Config", *verbs):
        require(hasattr(module, part), f"{called}: the module has no '{part}'.")
    return called, module


def settings(module: ModuleType, options: dict[str, Any], called: str) -> Any:
    """The plug-in's config from plain options."""
    return build(module.Config, options, where=called)


def require_close(ours: Tensor, wanted: Tensor, sentence: str, *, tolerance: float = 1e-4) -> None:
    """Raise unless both are equal to within ``tolerance`` (absolute and relative, NaN equals NaN).

    Raises:
        LawBroken: they are not; the sentence ends in the largest difference.
    """
    require(
        ours.shape == wanted.shape, f"{sentence} Shapes differ: {tuple(ours.shape)}, {tuple(wanted.shape)}."
    )
    if not torch.allclose(ours, wanted, rtol=tolerance, atol=tolerance, equal_nan=True):
        worst = float((ours - wanted).abs().nan_to_num(torch.inf).max())
        raise LawBroken(f"{sentence} The largest difference is {worst:.3g}.")


def require_lists(lists_BGL: Tensor, mask_BN: Tensor, called: str) -> None:
    """Every list has min(N, L) distinct real candidates in front, and index 0 behind them.

    Raises:
        LawBroken: one has not.
    """
    length, n = lists_BGL.shape[2], mask_BN.shape[1]
    require(
        not lists_BGL.is_floating_point(), f"{called}: lists must be whole numbers, not {lists_BGL.dtype}."
    )
    require(
        ((lists_BGL >= 0) & (lists_BGL < n)).all(), f"{called}: a list points outside the candidate axis."
    )
    end_BL = torch.arange(length, device=mask_BN.device) < mask_BN.sum(1, keepdim=True)
    real_BGL = mask_BN[:, None].expand(-1, lists_BGL.shape[1], -1).gather(2, lists_BGL)
    ended_BGL = end_BL[:, None].expand_as(lists_BGL)
    require((real_BGL | ~ended_BGL).all(), f"{called}: a list has a candidate that is not real.")
    require(
        (lists_BGL[~ended_BGL] == 0).all(), f"{called}: behind the end of a short list the index must be 0."
    )
    place_L = torch.arange(length, device=mask_BN.device)
    own_BGL = torch.where(ended_BGL, lists_BGL, n + place_L).sort(2).values
    require((own_BGL.diff(dim=2) > 0).all(), f"{called}: a list has the same candidate twice.")
