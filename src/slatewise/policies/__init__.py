"""Policies: what a ranker holds and serving runs; each writes one list for a batch of requests.

``decode`` is a generator with a decoding strategy (DNN, PRM, GoalRank …); ``pick`` lets a reward model choose among
lists of several generators; ``search`` lets a reward model search for itself. Each file exports ``Config`` and
``build(config, manifest) -> Policy``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.decoding.ruled import Rules
from slatewise.names import plugin
from slatewise.types import Answer, Ranking


@dataclass(frozen=True)
class Form:
    """What has to be known of a policy to write it as one graph.

    Attributes:
        obstacle: why it cannot be one, as the end of a sentence; empty where it can.
        fewest, most: widths of the candidate axis that its :meth:`Policy.answer` takes, beside the length of the list,
            below which nobody goes; 0: no limit.
        alone: ``rank`` treats a request in a batch otherwise than alone; ``answer`` treats it as alone.
        ruled: it writes position by position, so that rules can be masks of its loop (:meth:`Policy.answer_ruled`).
    """

    obstacle: str = ""
    fewest: int = 0
    most: int = 0
    alone: bool = False
    ruled: bool = False


class Policy(nn.Module, ABC):
    """Something that ranks."""

    @abstractmethod
    def rank(self, batch: ListBatch, length: int) -> Ranking:
        """The best list of ``length`` for each request; deterministic, without gradient."""

    @torch.no_grad()
    def answer(self, batch: ListBatch, length: int) -> Answer:
        """The same list with what serving says beside it; what an exported graph computes.

        Here for policies that sort by a score which is no logit.
        """
        ranking = self.rank(batch, length)
        nothing_B = ranking.score_BN.new_full((batch.mask_BN.shape[0],), torch.nan)
        return Answer(ranking.order_BL, ranking.mask_BL, nothing_B, ranking.score_BN)

    def answer_ruled(self, batch: ListBatch, length: int, rules: Rules) -> Answer:
        """:meth:`answer` under rules, for policies whose ``form`` is ``ruled``."""
        raise NotImplementedError(f"{type(self).__name__} does not write position by position.")

    @torch.no_grad()
    def margin(self, batch: ListBatch, order_BL: Tensor, rival_BL: Tensor) -> Tensor:
        """How much the policy prefers its own list to a rival (B,), where they part; about 0: it cannot tell them apart.

        Here the difference of the scores of the first two candidates that differ; 0 for equal lists.
        """
        score_BN = self.answer(batch, order_BL.shape[1]).score_BN
        own_B1, rival_B1 = parting(order_BL, rival_BL)
        return (score_BN.gather(1, own_B1) - score_BN.gather(1, rival_B1)).squeeze(1)

    @property
    def certain(self) -> bool:
        """Whether a request always gets the same list; False: it is drawn, by the request's place in its batch."""
        return True

    @property
    def form(self) -> Form:
        """What has to be known of it to write it as one graph."""
        return Form()


def parting(order_BL: Tensor, rival_BL: Tensor) -> tuple[Tensor, Tensor]:
    """The candidates (B, 1) of both lists at the first place where they differ; at the first place for equal ones."""
    place_B1 = (order_BL != rival_BL).float().argmax(1, keepdim=True)
    return order_BL.gather(1, place_B1), rival_BL.gather(1, place_B1)


def build_policy(name: str, config: object, manifest: Manifest) -> Policy:
    """The policy plug-in ``name`` built from its config."""
    policy: Policy = plugin("policies", name).build(config, manifest)
    return policy
