"""PRM (Pei et al. 2019): a Transformer encoder over the candidates, softmax cross-entropy over the list, sort.

Differences to the paper: pre-norm layers, the initial order enters as features of the retriever score instead of a
position embedding (so that the model stays permutation-equivariant), and the pretrained click network's vector is
the shared tower's, trained end to end.
"""

from __future__ import annotations

from slatewise.config import Frozen, to_plain
from slatewise.data.prepared import PreparedData
from slatewise.generators import scorer
from slatewise.policies import decode
from slatewise.ranker import Ranker, make_ranker
from slatewise.training.run import Run
from slatewise.training.scorers import ScorerConfig, fit_scorer

DEFAULT = ScorerConfig(generator=scorer.Config(encoder_layers=2), loss="softmax")


class Config(Frozen):
    """The scorer (two encoder layers) and its training."""

    scorer: ScorerConfig = DEFAULT


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train the scorer."""
    model = fit_scorer("prm", config.scorer, data, run)
    policy = decode.Config(generator="scorer", options=to_plain(config.scorer.generator))
    return make_ranker("prm", config, "decode", policy, {"generator": model}, data, run.seed)
