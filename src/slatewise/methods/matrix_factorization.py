"""Matrix factorisation (Hu, Koren and Volinsky 2008) of who wanted what in training, by alternating least squares."""

from __future__ import annotations

import numpy as np
import torch

from slatewise.candidates import matrix_factorization
from slatewise.candidates.retrieval import Interactions
from slatewise.config import Frozen
from slatewise.data.prepared import PreparedData
from slatewise.policies import factors
from slatewise.ranker import Ranker, make_ranker
from slatewise.training.run import Run
from slatewise.training.sequences import catalogue_mask, wanted_pairs


class Config(Frozen):
    """The factorisation (``fit`` and ``folds`` are for candidates of training lists, and play no part here).

    ``repeats``: items of the request's history may be recommended again.
    """

    factorization: matrix_factorization.Config = matrix_factorization.Config()
    repeats: bool = False


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Factorise.

    Raises:
        DataError: the data has no interactions to learn from.
    """
    user_n, item_n = wanted_pairs(data)
    pairs = Interactions(user_n, item_n, np.full(len(user_n), -1), data.schema.users, data.schema.items)
    user_UV, item_IV = matrix_factorization.factorise(config.factorization, pairs, run.seed)
    user_UV[0] = user_UV[np.unique(user_n)].mean(axis=0)
    spec = factors.Config(width=user_UV.shape[1], repeats=config.repeats)
    policy = factors.build(spec, data.manifest)
    policy.user_UV.copy_(torch.from_numpy(user_UV))
    policy.item_IV.copy_(torch.from_numpy(item_IV))
    policy.catalogue_I.copy_(catalogue_mask(data))
    return make_ranker("matrix-factorization", config, "factors", spec, {"": policy}, data, run.seed)
