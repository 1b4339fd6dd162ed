"""DeGRe's lookahead evaluator (DeGRe §4.1): a causal Transformer that knows what any beginning of a list is worth.

Cumulative regression: for every prefix l_1:t the head gives P(V >= k) for each k <= t (Eq. 7), learnt by cross-entropy
on every threshold of every prefix (Eq. 8); the prefix is worth their sum (Eq. 4).

**Amounts.** Where the target is no count (watch time, money), M thresholds are learnt from training data as quantiles
of what prefixes brought, and the label of a threshold is the share of the way to it, from the threshold below, that the
value covers: V = floor + sum_k width_k share_k for every V, and the lowest and the highest share go on past 0 and 1, so
that nothing is cut off. Cross-entropy learns a share's mean, so E[V] = floor + sum_k width_k P_k is unbiased for each
list by itself, however few thresholds there are and however long the tail (with P(V > threshold_k) in P_k's place it
would be too low or too high by what a segment hides). P_k is then the mean of P(V > v) over the k-th segment, and can no
more rise with k than that. With thresholds 1 … L and V a count, share_k is 1 if V >= k and else 0: the paper's case.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from slatewise.config import Above0, Chance, Count, Frozen, Positive, Weight
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.errors import ConfigError
from slatewise.losses import ordered_bce
from slatewise.losses._mean import masked_mean
from slatewise.modules.gather import gather_candidates
from slatewise.modules.list_layer import Interaction
from slatewise.modules.list_reader import ListReader
from slatewise.modules.tower import TowerConfig, build_tower
from slatewise.rewards._reading import Reading
from slatewise.rewards.base import FeedbackHead, RewardMemory, ValueHead, places


class Config(Frozen):
    """The paper's are ``head = "cumulative"``, fields of width 16, 6 layers, ``interaction = "attention"``; it does not
    give ``tower.width`` (d_model), ``heads``, ``feedforward`` and ``dropout``.

    Attributes:
        head: ``cumulative`` has free logits; in ``monotone`` P(V >= k) cannot rise with k, by construction; ``step``
            predicts each step's own feedback, and V is the sum: as ``listwise`` with a per-position head does.
        thresholds: M, for targets with amounts; a count has its own, 1 … L.
        increment_weight: weight of an additional squared error of V(1:t) - V(1:t-1) against the step's own feedback
            (in units of its root mean square for amounts). Not with ``step``, whose loss that is already.
    """

    tower: TowerConfig = TowerConfig(form="fields")
    head: Literal["cumulative", "monotone", "step"] = "cumulative"
    list_layers: Count = 6
    heads: Positive = 2
    feedforward: Above0 = 2.0
    dropout: Chance = 0.1
    interaction: Interaction = "attention"
    thresholds: Positive = 16
    increment_weight: Weight = 0.0


class CumulativeHead(ValueHead):
    """Hidden states of prefixes to the distribution of what they bring, and to its mean.

    A target of binary kinds with positive weights is a count: a step brings between 0 and the weights' sum, its unit;
    thresholds are 1 … L units, and those behind the step's number are closed. Any other target is an amount.
    """

    edge_T: Tensor  # M + 1 edges of M segments, in units of value; a segment ends at its threshold
    open_LM: Tensor
    gain_scale: Tensor

    def __init__(self, width: int, manifest: Manifest, thresholds: int, monotone: bool) -> None:
        super().__init__(manifest)
        length, weights = manifest.schema.length, manifest.target_weights()
        used = [kind for kind, weight in zip(manifest.schema.feedback, weights, strict=True) if weight]
        self.counts = all(kind.binary for kind in used) and min(weights) >= 0
        self.monotone, segments = monotone, length if self.counts else thresholds
        self.out = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, segments))
        unit, open_LM = (
            torch.tensor(sum(weights) if self.counts and used else 1.0),
            torch.ones(length, segments),
        )
        self.register_buffer("gain_scale", unit)
        self.register_buffer("edge_T", unit * torch.arange(segments + 1))
        self.register_buffer("open_LM", open_LM.tril() if self.counts else open_LM)

    def learn_thresholds(self, feedback_BEK: Tensor, mask_BE: Tensor) -> None:
        """Take an amount's thresholds and the unit of a step's gain from training feedback."""
        if self.counts or not bool(mask_BE.any()):
            return
        length, segments = self.open_LM.shape
        gain_BL, mask_BL = (feedback_BEK @ self.weight_K)[:, :length], mask_BE[:, :length]
        value_V = (gain_BL * mask_BL).cumsum(1)[mask_BL]
        floor = value_V.min().clamp_max(0.0)
        above_V = value_V[value_V > floor]
        if len(above_V) == 0:  # every value is the same: any unit will do
            above_V = floor[None] + 1.0
        at_T = torch.linspace(0, 1, segments + 1)[1:]
        edges = torch.cat([floor[None], above_V.quantile(at_T)]).unique()
        # values that come often make quantiles fall together: spread what is left over the same range
        place_T = torch.linspace(0, len(edges) - 1, segments + 1)
        low_T = place_T.long().clamp_max(len(edges) - 2)
        self.edge_T.copy_(edges[low_T].lerp(edges[low_T + 1], place_T - low_T))
        self.gain_scale.copy_(gain_BL[mask_BL].square().mean().sqrt().clamp_min(1e-6))

    def logits(self, hidden: Tensor) -> Tensor:
        """Logit (..., M) of each threshold."""
        free = self.out(hidden)
        if not self.monotone:
            return free
        falls = nn.functional.softplus(free[..., 1:]).cumsum(-1)
        return torch.cat([free[..., :1], free[..., :1] - falls], -1)

    def expected(self, logit: Tensor, place: Tensor) -> Tensor:
        """Mean (...) of what prefixes that end at ``place`` (counted from 0) bring, in units of value."""
        return self.level * (self.edge_T[0] + (logit.sigmoid() * self.open_LM[place]) @ self.edge_T.diff())

    def shares(self, value: Tensor) -> Tensor:
        """How much of each segment (..., M) values (...) cover; below the lowest edge and above the highest it goes
        on, below 0 and above 1."""
        share = (value[..., None] - self.edge_T[:-1]) / self.edge_T.diff()
        low_M, high_M = torch.zeros_like(self.edge_T[1:]), torch.ones_like(self.edge_T[1:])
        low_M[0], high_M[-1] = -torch.inf, torch.inf
        return share.clamp(low_M, high_M)

    def loss(self, hidden_BGLD: Tensor, feedback_BGLK: Tensor, mask_BL: Tensor, increment: float) -> Tensor:
        """Eq. 8, and the increments' squared error if it has a weight."""
        gain_BGL, length = (feedback_BGLK @ self.weight_K) * mask_BL[:, None], mask_BL.shape[1]
        logit_BGLM = self.logits(hidden_BGLD)
        loss = ordered_bce.loss(logit_BGLM, self.shares(gain_BGL.cumsum(2)), self.open_LM[:length], mask_BL)
        if increment:
            value_BGL = self.expected(logit_BGLM, places(length, mask_BL.device))
            step_BGL = value_BGL.diff(dim=2, prepend=torch.zeros_like(value_BGL[:, :, :1]))
            error_BGL = ((step_BGL - gain_BGL) / self.gain_scale).square()
            loss = loss + increment * masked_mean(error_BGL, mask_BL[:, None].expand_as(error_BGL))
        return loss


class Lookahead(Reading):
    """DeGRe-E."""

    def __init__(self, config: Config, manifest: Manifest) -> None:
        super().__init__()
        schema, width = manifest.schema, config.tower.width
        self.config, self.sums = config, config.head == "step"
        self.tower = build_tower(config.tower, schema)
        self.reader = ListReader(
            width,
            schema.length,
            layers=config.list_layers,
            heads=config.heads,
            hidden=int(config.feedforward * width),
            dropout=config.dropout,
            interaction=config.interaction,
            causal=True,
        )
        self.head: FeedbackHead | CumulativeHead = (
            FeedbackHead(width, manifest, "none")
            if config.head == "step"
            else CumulativeHead(width, manifest, config.thresholds, config.head == "monotone")
        )

    def encode(self, batch: ListBatch) -> RewardMemory:
        """The candidates' vectors, each by itself."""
        return RewardMemory(batch.mask_BN, self.tower(batch)[0])

    def step(self, hidden: Tensor, item: Tensor, place: Tensor) -> Tensor:
        """The prefix's expected value, or that of the step alone."""
        if isinstance(self.head, FeedbackHead):
            return self.head.gain(self.head.out(hidden), place)[..., None]
        return self.head.expected(self.head.logits(hidden), place)[..., None]

    def loss(self, memory: RewardMemory, lists_BGL: Tensor, feedback_BGLK: Tensor, mask_BL: Tensor) -> Tensor:
        """Eq. 8 (with the increments' error), or cross-entropy on each step's feedback."""
        hidden_BGLD, _ = self.reader(gather_candidates(memory.parts, lists_BGL), mask_BL)
        if isinstance(self.head, FeedbackHead):
            return self.head.loss(self.head.out(hidden_BGLD), feedback_BGLK, mask_BL)
        return self.head.loss(hidden_BGLD, feedback_BGLK, mask_BL, self.config.increment_weight)

    def start_from(self, item_vectors: Tensor, feedback_BEK: Tensor, mask_BE: Tensor) -> None:
        """Start vectors of the tower, thresholds or scale of the amounts."""
        self.tower.load_item_vectors(item_vectors)
        if isinstance(self.head, FeedbackHead):
            self.head.set_scale(feedback_BEK, mask_BE)
        else:
            self.head.learn_thresholds(feedback_BEK, mask_BE)


def build(config: Config, manifest: Manifest) -> Lookahead:
    """The evaluator for data of this manifest, with random weights.

    Raises:
        ConfigError: fewer than one threshold, or increments with a head that has no other loss.
    """
    if config.thresholds < 1:
        raise ConfigError(f"thresholds is {config.thresholds}; an amount needs at least 1.")
    if config.increment_weight < 0 or (config.increment_weight and config.head == "step"):
        raise ConfigError(
            f"increment_weight is {config.increment_weight:g} with head '{config.head}'; it must be 0 or more, and 0 "
            "with head 'step', which learns each step's feedback already."
        )
    return Lookahead(config, manifest)
