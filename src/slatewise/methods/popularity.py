"""Popularity: items sorted by how often they were wanted in training, for everybody alike. The floor of every table."""

from __future__ import annotations

import numpy as np
import torch

from slatewise.config import Frozen
from slatewise.data.prepared import PreparedData
from slatewise.policies import factors
from slatewise.ranker import Ranker, make_ranker
from slatewise.training.run import Run
from slatewise.training.sequences import catalogue_mask, wanted_pairs


class Config(Frozen):
    """``repeats``: items of the request's history may be recommended again."""

    repeats: bool = False


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Count.

    Raises:
        DataError: the data has no interactions to count.
    """
    _, item_n = wanted_pairs(data)
    spec = factors.Config(width=1, repeats=config.repeats)
    policy = factors.build(spec, data.manifest)
    policy.user_UV.fill_(1.0)
    count_I = np.bincount(item_n, minlength=data.schema.items)
    # of equally popular items the one that comes first in the vocabulary: a tie would leave the order to the request
    score_I = count_I - np.arange(len(count_I)) / len(count_I)
    policy.item_IV.copy_(torch.from_numpy(score_I.astype(np.float32))[:, None])
    policy.catalogue_I.copy_(catalogue_mask(data))
    return make_ranker("popularity", config, "factors", spec, {"": policy}, data, run.seed)
