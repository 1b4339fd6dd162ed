"""DNN (Covington et al. 2016): each candidate is scored by itself; the list is the sort.

Input as in common re-ranking code (user, item, their product, retriever score) through the shared feature tower;
binary cross-entropy an item. The paper's width is 128; the default here is 64, for two cores.
"""

from __future__ import annotations

from slatewise.config import Frozen, to_plain
from slatewise.data.prepared import PreparedData
from slatewise.policies import decode
from slatewise.ranker import Ranker, make_ranker
from slatewise.training.run import Run
from slatewise.training.scorers import ScorerConfig, fit_scorer


class Config(Frozen):
    """The scorer and its training."""

    scorer: ScorerConfig = ScorerConfig()


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train the scorer."""
    model = fit_scorer("dnn", config.scorer, data, run)
    policy = decode.Config(generator="scorer", options=to_plain(config.scorer.generator))
    return make_ranker("dnn", config, "decode", policy, {"generator": model}, data, run.seed)
