"""From scores over a catalogue to what is recommended: the best, and nothing that the user has just met."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.types import Retrieved


def best(score_BI: Tensor, catalogue_I: Tensor, batch: ListBatch, count: int, repeats: bool) -> Retrieved:
    """The ``count`` best items of the catalogue; with ``repeats`` also those of the request's history."""
    score_BI = score_BI.masked_fill(~catalogue_I, -torch.inf)
    if not repeats:
        score_BI = score_BI.scatter(1, _met(batch, score_BI.shape[1]), -torch.inf)
    score_BK, items_BK = score_BI.topk(min(count, score_BI.shape[1]))
    return _closed(items_BK, score_BK)


def unmet(found: Retrieved, batch: ListBatch, count: int) -> Retrieved:
    """The first ``count`` of what was found that the request's history does not hold."""
    met_BH = batch.history_BH.masked_fill(~batch.history_mask_BH, 0).to(found.items_BK.device)
    known_BK = (found.items_BK[:, :, None] == met_BH[:, None]).any(2)
    score_BK = found.score_BK.masked_fill(known_BK, -torch.inf)
    order_BK = score_BK.argsort(dim=1, descending=True, stable=True)[:, :count]
    return _closed(found.items_BK.gather(1, order_BK), score_BK.gather(1, order_BK))


def _met(batch: ListBatch, items: int) -> Tensor:
    """(B, H) the history's items; 0, which is nobody's, behind its end and for items of no vocabulary."""
    known_BH = batch.history_mask_BH & (batch.history_BH < items)
    return batch.history_BH.masked_fill(~known_BH, 0)


def _closed(items_BK: Tensor, score_BK: Tensor) -> Retrieved:
    mask_BK = score_BK > -torch.inf
    return Retrieved(items_BK * mask_BK, mask_BK, score_BK)
