"""Online search under the reward: beam search over prefixes, then rounds of local search; no generator at all.

What a reward knows, at whatever cost; the gap from here to GoalRank is what distillation loses.
"""

from __future__ import annotations

from slatewise.config import Count, Frozen, Positive
from slatewise.data.prepared import PreparedData
from slatewise.policies import pick, search
from slatewise.ranker import Ranker, make_ranker
from slatewise.training.rewards import RewardConfig, fit_reward
from slatewise.training.run import Run


class Config(Frozen):
    """The reward, the beam's width, and the rounds of local search."""

    reward: RewardConfig = RewardConfig()
    width: Positive = 8
    rounds: Count = 0
    replace_top: Count = 0


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train the reward."""
    reward = fit_reward(config.reward, data, run)
    spec = pick.RewardSpec(
        name=config.reward.name, options=config.reward.options, members=config.reward.members
    )
    policy = search.Config(
        reward=spec, width=config.width, rounds=config.rounds, replace_top=config.replace_top
    )
    return make_ranker("reward-search", config, "search", policy, {"reward": reward}, data, run.seed)
