"""A user's past as the token stream of GPR and OneRanker: U, then C and X or I for each interaction, and a last C.

U is the user. C is the moment of an interaction before anybody knows its item: the context and the clock. X is organic
content, I an item of the catalogue, each with its feedback. What stands at C is asked for the item; so one pass gives
an answer at every interaction in training, and at the request's own C in ranking. Shapes, besides the legend in
:mod:`slatewise.types`: T interactions, S = 2 T + 2 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slatewise.data.batch import ListBatch
from slatewise.data.interactions import InteractionBatch
from slatewise.data.schema import Schema
from slatewise.modules.item_table import ItemTable
from slatewise.modules.tower import Features

HOUR, DAY = 3600, 86_400
CLOCK = 6  # numbers that say when


@dataclass(frozen=True)
class Stream:
    """B token streams.

    Attributes:
        token_BSD: the tokens.   mask_BS: True where one is real.   time_BS: seconds, 0 = unknown.
        visible_BSS: True at [b, q, k] where token q may look at token k: itself, and what lies strictly earlier in
            time. Interactions of one moment do not see each other, as a request's history ends before its moment.
    """

    token_BSD: Tensor
    mask_BS: Tensor
    time_BS: Tensor
    visible_BSS: Tensor


class EventTokens(nn.Module):
    """Streams of training windows and of requests, from the same parts."""

    def __init__(self, schema: Schema, width: int, id_dropout: float) -> None:
        super().__init__()
        users = schema.trained_users or schema.users
        numeric, categories = len(schema.user_numeric), schema.user_categories
        self.user = Features(users, categories, numeric, width, id_dropout)
        self.context = Features(0, schema.context_categories, len(schema.context_numeric) + CLOCK, width, 0.0)
        self.feedback = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width))
        self.kind = nn.Embedding(4, width)  # U, C, I, X
        nn.init.normal_(self.kind.weight, std=0.05)

    def of_windows(self, batch: InteractionBatch, items: ItemTable) -> Stream:
        """Streams (B, 2 T + 1) of training windows: the C of interaction t is token 2 t + 1."""
        user_BD = self.user(batch.user_B, batch.user_categories_BC, batch.user_numeric_BF)
        clock_BTF = clock(batch.time_BT, before(batch.time_BT))
        context_BTD = self._context(batch.context_categories_BTC, batch.context_numeric_BTF, clock_BTF)
        item_BTD = self._item(
            items(batch.item_BT, batch.item_categories_BTC, batch.item_numeric_BTF),
            batch.feedback_BT,
            batch.organic_BT,
        )
        return self._stream(user_BD, context_BTD, item_BTD, batch.time_BT, batch.mask_BT)

    def of_requests(self, batch: ListBatch, items: ItemTable) -> tuple[Stream, Tensor]:
        """Streams (B, 2 H + 2) of requests, and the place (B,) of each request's own C, behind its history."""
        user_BD = self.user(batch.user_B, batch.user_categories_BC, batch.user_numeric_BF)
        count_B = batch.history_mask_BH.sum(1)
        # the request is one more moment behind the history, whose item is not known
        time_BT = _place(_wider(batch.history_time_BH), count_B, batch.time_B)
        numeric = _place(_wider(batch.history_context_numeric_BHF), count_B, batch.context_numeric_BF)
        categories = _place(
            _wider(batch.history_context_categories_BHC), count_B, batch.context_categories_BC
        )
        context_BTD = self._context(categories, numeric, clock(time_BT, before(time_BT)))
        item_BHD = self._item(
            items(batch.history_BH, batch.history_categories_BHC, batch.history_numeric_BHF),
            batch.history_feedback_BH,
            batch.history_organic_BH,
        )
        mask_BT = torch.arange(time_BT.shape[1], device=count_B.device) <= count_B[:, None]
        return self._stream(user_BD, context_BTD, _wider(item_BHD), time_BT, mask_BT), 1 + 2 * count_B

    def _context(self, categories: Tensor, numeric: Tensor, clock_BTF: Tensor) -> Tensor:
        index = clock_BTF[..., 0].long()  # of the right shape; a moment has no id
        context_BTD: Tensor = self.context(index, categories, torch.cat([numeric, clock_BTF], -1))
        return context_BTD + self.kind.weight[1]

    def _item(self, item_BTD: Tensor, feedback_BT: Tensor, organic_BT: Tensor) -> Tensor:
        felt_BT2 = torch.stack([(feedback_BT > 0).float(), feedback_BT.clamp_min(0).log1p()], -1)
        return item_BTD + self.feedback(felt_BT2) + self.kind(2 + organic_BT.long())

    def _stream(
        self, user_BD: Tensor, context_BTD: Tensor, item_BTD: Tensor, time_BT: Tensor, mask_BT: Tensor
    ) -> Stream:
        pair_BSD = torch.stack([context_BTD, item_BTD], 2).flatten(1, 2)
        token_BSD = torch.cat([(user_BD + self.kind.weight[0])[:, None], pair_BSD], 1)
        time_BS = time_BT.repeat_interleave(2, 1)
        first_B1 = time_BS[:, :1]  # the user has no time; that of the first moment keeps differences small
        mask_BS = mask_BT.repeat_interleave(2, 1)
        time_BS = torch.cat([first_B1, time_BS], 1)
        mask_BS = torch.cat([torch.ones_like(mask_BS[:, :1]), mask_BS], 1)
        return Stream(token_BSD, mask_BS, time_BS, visible(time_BS, mask_BS))


def visible(time_BS: Tensor, mask_BS: Tensor) -> Tensor:
    """Who sees whom (B, S, S) in a stream U, C, item, C, item …: see :class:`Stream`.

    An item also sees its own C, and everybody the user. Interactions of unknown time (0) count as apart.
    """
    s = time_BS.shape[1]
    place = torch.arange(s, device=time_BS.device)
    earlier_BSS = (time_BS[:, :, None] > time_BS[:, None, :]) | (time_BS[:, :, None] == 0)
    pair = (place + 1) // 2  # a C and its item
    own_SS = pair[:, None] == pair[None, :]
    user_S = place == 0
    allowed_BSS = (earlier_BSS | own_SS | user_S[None, :]) & (place[:, None] >= place[None, :])
    itself_SS = place[:, None] == place[None, :]
    return (allowed_BSS & mask_BS[:, None, :]) | itself_SS


def clock(time_BT: Tensor, before_BT: Tensor) -> Tensor:
    """(B, T, 6): hour of the day and day of the week as points on a circle, log of the hours since the moment before,
    and whether any of it is known; all 0 where the time is not."""
    day = (time_BT % DAY).float() / DAY * (2 * torch.pi)
    week = (time_BT // DAY % 7).float() / 7 * (2 * torch.pi)
    known = (time_BT > 0).float()
    gap = ((time_BT - before_BT).clamp_min(0).float() / HOUR).log1p() * (before_BT > 0)
    parts = [day.sin(), day.cos(), week.sin(), week.cos(), gap / 4, torch.ones_like(gap)]
    return torch.stack(parts, -1) * known[..., None]


def before(time_BT: Tensor) -> Tensor:
    """The latest strictly earlier moment in the row (times do not fall), 0 where there is none."""
    apart_BT = torch.ones_like(time_BT, dtype=torch.bool)
    apart_BT[:, 1:] = time_BT[:, 1:] > time_BT[:, :-1]
    shifted_BT = torch.cat([torch.zeros_like(time_BT[:, :1]), time_BT[:, :-1]], 1)
    return _running_max(shifted_BT * apart_BT)


def _running_max(x_BT: Tensor) -> Tensor:
    """The largest up to each place, of numbers that are not negative, in log2(T) passes; ONNX has no ``cummax``."""
    reach = 1
    while reach < x_BT.shape[1]:
        behind_BT = torch.cat([torch.zeros_like(x_BT[:, :reach]), x_BT[:, :-reach]], 1)
        x_BT, reach = torch.maximum(x_BT, behind_BT), 2 * reach
    return x_BT


def _wider(x_BH: Tensor) -> Tensor:
    """One more place behind the last, of zeros."""
    return (
        torch.cat([x_BH, torch.zeros_like(x_BH[:, :1])], 1)
        if x_BH.shape[1]
        else x_BH.new_zeros(x_BH.shape[0], 1, *x_BH.shape[2:])
    )


def _place(x_BT: Tensor, place_B: Tensor, value_B: Tensor) -> Tensor:
    """``x_BT`` with ``value_B`` at ``place_B`` of each row."""
    x_BT = x_BT.clone()
    x_BT[torch.arange(place_B.shape[0], device=place_B.device), place_B] = value_B
    return x_BT
