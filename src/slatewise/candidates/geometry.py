"""A floor: what the shape of a request's retriever scores gives away, without knowing any item or user.

Where candidates come from different sources (shown, retrieved, drawn), the scores alone may tell them apart:
on ``goalrank-v1`` these trees reach what the paper's best model does. A ranker that is not above this row has
shown nothing. Gradient-boosted trees on the score, its standing and its gaps to the neighbours in the sorted
request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.data.prepared import Split
from slatewise.errors import DataError
from slatewise.rng import child_seed, numpy_rng

REQUESTS = 5000  # enough for one-dimensional shapes; keeps fitting within seconds


@dataclass(frozen=True)
class Geometry:
    """Fitted trees; ``columns`` are the places of the score features among ``candidate_numeric``."""

    trees: HistGradientBoostingClassifier
    columns: list[int]

    def score(self, batch: ListBatch) -> Tensor:
        """(B, N) probability that the candidate gets feedback, by its score's geometry; -inf where unreal."""
        features = batch.candidate_numeric_BNF[..., self.columns]
        score_BN = torch.full(batch.mask_BN.shape, -torch.inf, device=batch.mask_BN.device)
        rows = features[batch.mask_BN].cpu().numpy()
        if len(rows):
            with threadpool_limits(limits=1):
                chance = self.trees.predict_proba(rows)[:, 1]
            score_BN[batch.mask_BN] = torch.from_numpy(chance.astype(np.float32)).to(score_BN.device)
        return score_BN


def score_columns(split: Split) -> list[int]:
    """Places of the score's features in ``Schema.candidate_numeric``; none if the data has no scores."""
    names = split.schema.candidate_numeric
    return [place for place, name in enumerate(names) if name == "score" or name.startswith("score_")]


def fit(split: Split, weights: list[float], seed: int = 0) -> Geometry:
    """Fit on the training split.

    Args:
        split: requests to learn from; at most 5,000 of them are used, chosen by ``seed``.
        weights: one number a feedback kind (:meth:`~slatewise.data.schema.Manifest.target_weights`); a
            candidate with weighted feedback above 0 is a positive.
        seed: of the choice and of the trees.

    Raises:
        DataError: the data has no retriever scores, or its labels are all the same.
    """
    columns = score_columns(split)
    if not columns:
        raise DataError("the data has no candidate_scores, so there is no score geometry to learn from.")
    number = min(len(split), REQUESTS)
    rows = np.sort(numpy_rng(seed, "geometry").choice(len(split), number, replace=False))
    features, label = _examples(split.batch(rows), columns, weights)
    if label.all() or not label.any():
        raise DataError(
            "score geometry needs candidates with and without feedback, but all labels are the same."
        )
    trees = HistGradientBoostingClassifier(
        max_iter=80, early_stopping=False, random_state=child_seed(seed, "trees") % 2**31
    )
    with threadpool_limits(limits=1):
        trees.fit(features, label)
    return Geometry(trees, columns)


def _examples(
    batch: ListBatch, columns: list[int], weights: list[float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    label_BN = batch.label_BN(weights) > 0
    features = batch.candidate_numeric_BNF[batch.mask_BN][:, columns]
    return features.numpy(), label_BN[batch.mask_BN].numpy()
