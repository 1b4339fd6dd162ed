"""HSTU (Zhai et al. 2024) as a generative retriever: OneRanker's first step alone, one head, every target alike.

The next item's semantic id is predicted from the token stream; candidates are ranked, and the catalogue is searched, by
the likelihood of their paths. The original predicts item ids with a sampled softmax; here its stack stands under the
semantic ids of the two methods that follow it, so that a difference to them is not the vocabulary.
"""

from __future__ import annotations

from slatewise.config import Frozen, Positive
from slatewise.data.prepared import PreparedData
from slatewise.generators import oneranker
from slatewise.methods.gpr import fit_paths
from slatewise.ranker import Ranker
from slatewise.training.run import Run
from slatewise.training.sequences import SequenceConfig


class Config(Frozen):
    """The backbone and its training; ``width`` and ``repeats`` as :class:`slatewise.methods.gpr.Config` has them."""

    model: oneranker.Architecture = oneranker.Architecture(paths=1, target_aware=False, ranker=False)
    sequence: SequenceConfig = SequenceConfig()
    width: Positive = 100
    repeats: bool = False


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train the backbone.

    Raises:
        ConfigError: a step of OneRanker is switched on.   DataError: the data has no interactions to learn from.
    """
    return fit_paths("hstu", config, data, run)
