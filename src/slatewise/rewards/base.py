"""What every reward model can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest

Discount = Literal["none", "log"]


@dataclass(frozen=True)
class RewardMemory:
    """A request encoded once, shared by all lists that are valued for it."""

    mask_BN: Tensor
    parts: Any

    def take(self, index_BM: Tensor) -> RewardMemory:
        """The request with only the chosen candidates, in that order; ``parts`` are tensors (B, N, ...), or memories."""
        if isinstance(self.parts, list):
            parts: Any = [part.take(index_BM) for part in self.parts]
        else:
            shape = (*index_BM.shape, *[1] * (self.parts.dim() - 2))
            parts = torch.take_along_dim(self.parts, index_BM.view(shape), 1)
        return RewardMemory(self.mask_BN.gather(1, index_BM), parts)


class RewardModel(nn.Module, ABC):
    """Estimates a list's value, in units of the manifest's target (weighted feedback, summed over positions)."""

    @abstractmethod
    def encode(self, batch: ListBatch) -> RewardMemory:
        """Everything about the request that does not depend on the list."""

    @abstractmethod
    def value_of(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Value of each list (B, G). Lists may be shorter than L; places behind a request's end count nothing."""

    @abstractmethod
    def extension_value(self, memory: RewardMemory, prefix_BGT: Tensor) -> Tensor:
        """Value of each prefix with each candidate behind it (B, G, N), candidates in the prefix included."""

    def expander(self, memory: RewardMemory) -> Callable[[Any], Tensor]:
        """Expansion for :func:`slatewise.decoding.search.beam_search`; to be called once a position, in order."""
        return lambda beam: self.extension_value(memory, beam.lists_BKT)

    def value(self, batch: ListBatch, lists_BGL: Tensor) -> Tensor:
        """Encode and value in one go."""
        return self.value_of(self.encode(batch), lists_BGL)


class FeedbackHead(nn.Module):
    """Turns K outputs a position into expected feedback, and the feedback into the target's value.

    Binary kinds come out as probabilities, amounts in units of their training scale (:meth:`set_scale`).
    ``discount = "log"`` weighs position t by 1 / log2(t + 1), which gives order a say where feedback has none.
    """

    scale_K: Tensor
    weight_K: Tensor
    binary_K: Tensor

    def __init__(self, width: int, manifest: Manifest, discount: Discount) -> None:
        super().__init__()
        kinds = manifest.schema.feedback
        self.out = nn.Linear(width, len(kinds))
        self.discount = discount
        self.register_buffer("scale_K", torch.ones(len(kinds)))
        self.register_buffer("weight_K", torch.tensor(manifest.target_weights()))
        self.register_buffer("binary_K", torch.tensor([kind.binary for kind in kinds]))

    def set_scale(self, feedback_BEK: Tensor, mask_BE: Tensor) -> None:
        """Take the unit of each amount from training feedback: its root mean square."""
        rms_K = feedback_BEK[mask_BE].square().mean(0).sqrt().clamp_min(1e-6)
        self.scale_K.copy_(torch.where(self.binary_K, torch.ones_like(rms_K), rms_K))

    def expected(self, logit_BGLK: Tensor) -> Tensor:
        """Expected feedback of each kind at each position."""
        return torch.where(self.binary_K, logit_BGLK.sigmoid(), logit_BGLK * self.scale_K)

    def value(self, logit_BGLK: Tensor, mask_BL: Tensor) -> Tensor:
        """Value of each list (B, G): weighted expected feedback, summed over real positions."""
        gain_BGL = self.expected(logit_BGLK) @ self.weight_K
        return (gain_BGL * self.position_weight(gain_BGL.shape[2]) * mask_BL[:, None]).sum(2)

    def position_weight(self, length: int) -> Tensor:
        """Weight of each position (L,)."""
        place_L = torch.arange(length, device=self.weight_K.device, dtype=torch.float32)
        return torch.ones_like(place_L) if self.discount == "none" else 1.0 / torch.log2(place_L + 2.0)
