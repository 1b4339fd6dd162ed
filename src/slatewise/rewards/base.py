"""What every reward model can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.errors import ConfigError
from slatewise.losses._mean import masked_mean

if TYPE_CHECKING:  # search stands above rewards; only the form of its question is needed here
    from slatewise.decoding.search import Beam

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

    def prefix_value(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Value of every prefix l_1:t of every list (B, G, L); from a request's end on, that of the whole list.

        Here prefix by prefix; models whose positions do not see what follows need one pass.
        """
        values = [self.value_of(memory, lists_BGL[:, :, : t + 1]) for t in range(lists_BGL.shape[2])]
        return torch.stack(values, 2)

    def extension_value(self, memory: RewardMemory, prefix_BGT: Tensor) -> Tensor:
        """Value of each prefix with each candidate behind it (B, G, N), candidates in the prefix included.

        Here list by list; models that can read on from a prefix read it once for all N.
        """
        b, g, t = prefix_BGT.shape
        n = memory.mask_BN.shape[1]
        item_BGN = torch.arange(n, device=prefix_BGT.device).expand(b, g, n)
        lists = item_BGN[..., None]
        if t:
            lists = torch.cat([prefix_BGT[:, :, None].expand(b, g, n, t), lists], 3)
        return self.value_of(memory, lists.flatten(1, 2)).view(b, g, n)

    def expander(self, memory: RewardMemory) -> Callable[[Beam], Tensor]:
        """What :func:`slatewise.decoding.search.beam_search` asks for: a beam to the values (B, K, N) of all its
        extensions. Good for one search, called once a position, in order: models may keep what they have read."""
        return lambda beam: self.extension_value(memory, beam.lists_BKT)

    def loss(self, memory: RewardMemory, lists_BGL: Tensor, feedback_BGLK: Tensor, mask_BL: Tensor) -> Tensor:
        """What the model minimises on lists whose feedback is known.

        Args:
            memory: the encoded requests, with gradient.
            lists_BGL: G lists a request.   feedback_BGLK: the feedback of each kind on each place.
            mask_BL: places that have an item with known feedback, the same for all lists of a request. It may
                end before the candidates do: what stands behind was not shown, and says nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} does not learn.")

    def start_from(self, item_vectors: Tensor, feedback_BEK: Tensor, mask_BE: Tensor) -> None:
        """Before training: take the items' start vectors (items, V), and units of value from training feedback."""

    def value(self, batch: ListBatch, lists_BGL: Tensor) -> Tensor:
        """Encode and value in one go."""
        return self.value_of(self.encode(batch), lists_BGL)


class ValueHead(nn.Module):
    """What the heads of rewards share: what an observed list is worth, and the level of their values.

    ``level`` multiplies every value. It is 1 until :meth:`fit_level` sets it, so no loss is about it, and no list
    comes before another by it.
    """

    level: Tensor
    weight_K: Tensor

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        self.register_buffer("level", torch.ones(()))
        self.register_buffer("weight_K", torch.tensor(manifest.target_weights()))

    def position_weight(self, place: Tensor) -> Tensor:
        """Weight of places, counted from 0."""
        return torch.ones_like(place, dtype=torch.float32)

    def target(self, feedback_BGLK: Tensor, mask_BL: Tensor) -> Tensor:
        """Value of observed lists (B, G): weighted feedback, summed over real positions."""
        place_L = places(feedback_BGLK.shape[2], mask_BL.device)
        gain_BGL = (feedback_BGLK @ self.weight_K) * self.position_weight(place_L)
        return (gain_BGL * mask_BL[:, None]).sum(2)

    def fit_level(self, predicted: float, observed: float) -> None:
        """Set the level so that lists with this mean value bring what was observed.

        Raises:
            ConfigError: one of the means is not above 0; there is no such number then.
        """
        if predicted <= 0 or observed <= 0:
            raise ConfigError(
                f"fit_level needs mean values above 0, but the validation lists bring {observed:g} and are valued "
                f"{predicted:g}; set fit_level = false."
            )
        self.level *= observed / predicted


class FeedbackHead(ValueHead):
    """Turns K outputs a position into expected feedback, and the feedback into the target's value.

    Binary kinds come out as probabilities, amounts in units of their training scale (:meth:`set_scale`).
    ``discount = "log"`` weighs position t by 1 / log2(t + 1), which gives order a say where feedback has none.
    """

    scale_K: Tensor
    binary_K: Tensor

    def __init__(self, width: int, manifest: Manifest, discount: Discount) -> None:
        super().__init__(manifest)
        kinds = manifest.schema.feedback
        self.out = nn.Linear(width, len(kinds))
        self.discount = discount
        self.register_buffer("scale_K", torch.ones(len(kinds)))
        self.register_buffer("binary_K", torch.tensor([kind.binary for kind in kinds]))

    def set_scale(self, feedback_BEK: Tensor, mask_BE: Tensor) -> None:
        """Take the unit of each amount from training feedback: its root mean square."""
        rms_K = feedback_BEK[mask_BE].square().mean(0).sqrt().clamp_min(1e-6)
        self.scale_K.copy_(torch.where(self.binary_K, torch.ones_like(rms_K), rms_K))

    def expected(self, logit_BGLK: Tensor) -> Tensor:
        """Expected feedback of each kind at each position."""
        return torch.where(self.binary_K, logit_BGLK.sigmoid(), logit_BGLK * self.scale_K)

    def gain(self, logit: Tensor, place: Tensor) -> Tensor:
        """Value (...) of the places with outputs (..., K); ``place`` counts from 0 and broadcasts."""
        return self.level * (self.expected(logit) @ self.weight_K) * self.position_weight(place)

    def value(self, logit_BGLK: Tensor, mask_BL: Tensor) -> Tensor:
        """Value of each list (B, G): weighted expected feedback, summed over real positions."""
        gain_BGL = self.gain(logit_BGLK, places(logit_BGLK.shape[2], mask_BL.device))
        return (gain_BGL * mask_BL[:, None]).sum(2)

    def position_weight(self, place: Tensor) -> Tensor:
        """Weight of places, counted from 0."""
        place = place.float()
        return torch.ones_like(place) if self.discount == "none" else 1.0 / torch.log2(place + 2.0)

    def loss(self, logit_BGLK: Tensor, feedback_BGLK: Tensor, mask_BL: Tensor) -> Tensor:
        """Cross-entropy on binary kinds and squared error (in units of the training scale) on amounts, real places
        and kinds with a weight only."""
        binary = F.binary_cross_entropy_with_logits(logit_BGLK, feedback_BGLK.clamp(0, 1), reduction="none")
        amount = (logit_BGLK - feedback_BGLK / self.scale_K).square()
        used_K = (self.weight_K != 0).float()
        loss_BGL = (torch.where(self.binary_K, binary, amount) * used_K).sum(-1) / used_K.sum().clamp_min(1)
        return masked_mean(loss_BGL, mask_BL[:, None].expand_as(loss_BGL))


def places(length: int, device: torch.device) -> Tensor:
    """0 … L - 1."""
    return torch.arange(length, device=device)
