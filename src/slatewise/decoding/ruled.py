"""Business rules as masks of the greedy loop: what may stand where, and how many of a group in any window.

At each position the most probable candidate is taken among those that the rules allow behind what is written. Whether a list
can still be completed is not looked at here: whoever asks narrows ``allowed_BLN`` (:mod:`slatewise.serving.rules`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slatewise.decoding._loop import encode, to_slate, write
from slatewise.generators.base import CLOSED, Generator, Memory
from slatewise.types import Slate

FORBIDDEN = (
    2 * CLOSED
)  # below a candidate that is taken: a list repeats nothing even where the rules leave nothing


@dataclass(frozen=True)
class Rules:
    """Rules of a batch as tensors; R of them count groups.

    Attributes:
        allowed_BLN: candidates that may stand at each position.
        group_BRN: the group of each candidate under each rule; 0 = none.
        most_BR: of one group in any window.   window_BR: places of a window.
    """

    allowed_BLN: Tensor
    group_BRN: Tensor
    most_BR: Tensor
    window_BR: Tensor

    def open_BN(self, position: int, chosen: list[Tensor]) -> Tensor:
        """Candidates that may stand at a position behind the chosen ones, each (B,)."""
        open_BN = self.allowed_BLN[:, position]
        if not chosen:
            return open_BN
        at_BRT = torch.stack(chosen, 1)[:, None].expand(-1, self.group_BRN.shape[1], -1)
        group_BRT = self.group_BRN.gather(2, at_BRT)
        age_T = position - torch.arange(position, device=open_BN.device)
        inside_BRT = (age_T < self.window_BR[..., None]) & (group_BRT > 0)
        same_BRTN = (group_BRT[..., None] == self.group_BRN[:, :, None]) & inside_BRT[..., None]
        full_BRN = same_BRTN.sum(2) >= self.most_BR[..., None]
        return open_BN & ~full_BRN.any(1)


def decode_ruled(
    generator: Generator, batch_or_memory: Memory, *, length: int, rules: Rules
) -> tuple[Slate, Tensor]:
    """The greedy list under rules, and the first step's logits (B, N) without them.

    The log-probability is that under the generator's own policy, which knows no rules. Where nothing is allowed the list goes
    on with what is open, against the rules.
    """
    memory, first, chosen = encode(generator, batch_or_memory), list[Tensor](), list[Tensor]()

    def choose(position: int, logits_BGN: Tensor) -> Tensor:
        if position == 0:
            first.append(logits_BGN)
        closed_BGN = logits_BGN <= CLOSED / 2
        open_BN = rules.open_BN(position, chosen)
        # where nothing is allowed the first that is open is taken, which comes before one that is not
        wished_BGN = torch.where(open_BN[:, None], logits_BGN, CLOSED / 4)
        choice_BG = torch.where(closed_BGN, FORBIDDEN, wished_BGN).argmax(-1)
        chosen.append(choice_BG[:, 0])
        return choice_BG

    lists_BGL, log_prob_BG = write(generator, memory, length=length, count=1, choose=choose)
    return to_slate(memory, lists_BGL[:, 0], log_prob_BG[:, 0]), first[0][:, 0]
