"""Reward models: what a whole list is worth to a user, learnt from real feedback (the papers' evaluator, r̂)."""

from __future__ import annotations

from slatewise.data.schema import Manifest
from slatewise.names import plugin
from slatewise.rewards.base import RewardModel

__all__ = ["RewardModel", "build_reward"]


def build_reward(name: str, config: object, manifest: Manifest) -> RewardModel:
    """The reward plug-in ``name`` built from its config for data of this manifest."""
    reward: RewardModel = plugin("rewards", name).build(config, manifest)
    return reward
