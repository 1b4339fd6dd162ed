"""Generator–evaluator (MG-E, Yang et al. 2025): k lists from given generators, the reward model picks.

k = 3, 20, 100 are GoalRank's MG-E rows; see :mod:`slatewise.policies.pick` for what stands in for the generators.
"""

from __future__ import annotations

import msgspec

from slatewise.config import Above0, Frozen, Positive, to_plain
from slatewise.data.prepared import PreparedData
from slatewise.methods import prm
from slatewise.policies import pick
from slatewise.ranker import Ranker, make_ranker
from slatewise.training.rewards import RewardConfig, fit_reward
from slatewise.training.run import Run
from slatewise.training.scorers import ScorerConfig, fit_scorer


class Config(Frozen):
    """The reward, the generating scorers by name, k, and the temperature of the draws."""

    reward: RewardConfig = RewardConfig()
    scorers: dict[str, ScorerConfig] = msgspec.field(
        default_factory=lambda: {"dnn": ScorerConfig(), "prm": prm.DEFAULT}
    )
    lists: Positive = 20
    temperature: Above0 = 1.0


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train reward and generators."""
    reward = fit_reward(config.reward, data, run)
    models = {name: fit_scorer(name, spec, data, run) for name, spec in config.scorers.items()}
    policy = pick.Config(
        generators={
            n: pick.GeneratorSpec(options=to_plain(spec.generator)) for n, spec in config.scorers.items()
        },
        reward=pick.RewardSpec(
            name=config.reward.name, options=config.reward.options, members=config.reward.members
        ),
        lists=config.lists,
        temperature=config.temperature,
    )
    parts = {"reward": reward} | {f"generators.{name}": model for name, model in models.items()}
    return make_ranker("generator-evaluator", config, "pick", policy, parts, data, run.seed)
