"""Policies: what a ranker holds and serving runs; each writes one list for a batch of requests.

``decode`` is a generator with a decoding strategy (DNN, PRM, GoalRank …); ``pick`` lets a reward model choose among
lists of several generators; ``search`` lets a reward model search for itself. Each file exports ``Config`` and
``build(config, manifest) -> Policy``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.names import plugin
from slatewise.types import Ranking


class Policy(nn.Module, ABC):
    """Something that ranks."""

    @abstractmethod
    def rank(self, batch: ListBatch, length: int) -> Ranking:
        """The best list of ``length`` for each request; deterministic, without gradient."""


def build_policy(name: str, config: object, manifest: Manifest) -> Policy:
    """The policy plug-in ``name`` built from its config."""
    policy: Policy = plugin("policies", name).build(config, manifest)
    return policy
