"""A recurrent network that reads the list from both ends: it may learn what order and neighbours do.

Its logit at a place is the sum of one number from the list up to there and one from the list behind, so the lists that
requests share are read as trees: a common beginning or ending once for all lists that have it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slatewise.config import Chance, Frozen, Positive
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.evaluation.judges import TrainedJudge
from slatewise.evaluation.judges._features import JudgeFeatures
from slatewise.evaluation.judges._shared import Level, SharedLists
from slatewise.modules.gather import gather_candidates

# numbers in a level's gates held at once: what stays near a processor's cores, what fills an accelerator
STATES = {"cpu": 1 << 21, "other": 1 << 27}


class Config(Frozen):
    """``width`` of features and of the state in each direction."""

    width: Positive = 32
    dropout: Chance = 0.1


class GRU(TrainedJudge):
    """Features, a bidirectional GRU (Cho et al. 2014) over the list, one output a place."""

    def __init__(self, config: Config, manifest: Manifest) -> None:
        super().__init__()
        self.width = config.width
        self.features = JudgeFeatures(manifest.schema, config.width, config.dropout)
        self.reader = nn.GRU(config.width, config.width, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * config.width, 1)

    def item_states(self, batch: ListBatch) -> Tensor:
        """The candidates' vectors (B, N, D)."""
        return self.features(batch)

    def place_logits(self, memory: Tensor, lists_BGL: Tensor) -> Tensor:
        """Logits of lists that differ from request to request (B, G, L)."""
        hidden, _ = self.reader(gather_candidates(memory, lists_BGL).flatten(0, 1))
        return self.out(hidden).view(lists_BGL.shape)

    @torch.no_grad()
    def value_of_shared(self, memory: Tensor, size: int, shared: SharedLists) -> Tensor:
        """See :meth:`slatewise.evaluation.judges.Judge.value_of_shared`; equal to :meth:`value_of` up to rounding."""
        widest = max(len(level.item_P) for level in (*shared.beginnings, *shared.endings))
        room = STATES["cpu" if memory.device.type == "cpu" else "other"]
        step = max(1, room // (3 * self.width * widest))
        return torch.cat([self._shared_value(part, shared) for part in memory.split(step)])

    def _shared_value(self, memory: Tensor, shared: SharedLists) -> Tensor:
        ahead = self._along(memory, shared.beginnings, "", self.out.weight[0, : self.width])
        behind = self._along(memory, shared.endings, "_reverse", self.out.weight[0, self.width :])
        value_BG = torch.zeros(len(memory), len(shared.lists_GL), device=memory.device)
        for front, back in zip(ahead, reversed(behind), strict=True):
            value_BG += (front + back + self.out.bias).sigmoid_()
        return value_BG

    def _along(
        self, memory: Tensor, levels: Sequence[Level], direction: str, weight_D: Tensor
    ) -> list[Tensor]:
        """For each length the logit's share (B, G) of the state that each list's beginning ends in."""
        of = {name: getattr(self.reader, f"{name}_l0{direction}") for name in ("weight_ih", "weight_hh")}
        bias = {name: getattr(self.reader, f"{name}_l0{direction}") for name in ("bias_ih", "bias_hh")}
        item_BN3 = memory @ of["weight_ih"].T + bias["bias_ih"]
        state_BPD = memory.new_zeros(len(memory), 1, self.width)
        shares = []
        for level in levels:
            item_P, parent_P = level.item_P.to(memory.device), level.parent_P.to(memory.device)
            # the product with the state is made where the state is shared, one level up
            state_BP3 = state_BPD @ of["weight_hh"].T + bias["bias_hh"]
            state_BPD = _cell(item_BN3[:, item_P], state_BP3[:, parent_P], state_BPD[:, parent_P])
            shares.append((state_BPD @ weight_D)[:, level.place_G.to(memory.device)])
        return shares


def _cell(item_BP3: Tensor, state_BP3: Tensor, before_BPD: Tensor) -> Tensor:
    """One step of ``torch.nn.GRU`` from the products of its input and of its state."""
    width = before_BPD.shape[2]
    gates = (item_BP3[..., : 2 * width] + state_BP3[..., : 2 * width]).sigmoid_()
    new = (item_BP3[..., 2 * width :] + gates[..., :width] * state_BP3[..., 2 * width :]).tanh_()
    return new.lerp_(before_BPD, gates[..., width:])


def build(config: Config, manifest: Manifest) -> GRU:
    """The judge for data of this manifest, with random weights."""
    return GRU(config, manifest)
