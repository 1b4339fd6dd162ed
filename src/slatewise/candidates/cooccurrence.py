"""A floor: how often a candidate shares a user with the last items of the history.

On MovieLens people rated page after page of one film list, so this one-liner tells shown from drawn items with AUC
0.80 on ``matched-v1``; no sampling of negatives removes it, and every table there prints it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.data.prepared import Split


@dataclass(frozen=True)
class Cooccurrence:
    """Cosine between the sets of training users of two items, for all pairs (I, I), sparse; ``last``: history read."""

    cosine: csr_matrix
    last: int

    def score(self, batch: ListBatch) -> Tensor:
        """(B, N) sum of cosines with the last history items; 0 without history, -inf where unreal."""
        number_B1 = batch.history_mask_BH.sum(dim=1, keepdim=True)
        place_BK = number_B1 - 1 - torch.arange(min(self.last, batch.history_BH.shape[1]), device=number_B1.device)
        recent_BK = batch.history_BH.gather(1, place_BK.clamp(min=0)).cpu().numpy()
        items_BN = batch.candidates_BN.cpu().numpy()
        left_BNK, right_BNK = np.broadcast_arrays(items_BN[:, :, None], recent_BK[:, None, :])
        pairs = np.asarray(self.cosine[left_BNK.ravel(), right_BNK.ravel()]).reshape(left_BNK.shape)
        real_BK = (place_BK >= 0).cpu().numpy()
        score_BN = torch.from_numpy((pairs * real_BK[:, None, :]).sum(axis=2).astype(np.float32))
        return score_BN.to(batch.mask_BN.device).masked_fill(~batch.mask_BN, -torch.inf)


def fit(split: Split, last: int = 3) -> Cooccurrence:
    """Count on the training split: a user's items are those exposed to the user there and those of the histories."""
    columns = split.columns
    shown_RE = np.take_along_axis(columns["candidates"], columns["exposed"], axis=1)
    users, items = [], []
    for items_RW, number_R in ((shown_RE, columns["num_exposed"]), (columns["history"], columns["num_history"])):
        real_RW = np.arange(items_RW.shape[1]) < np.asarray(number_R)[:, None]
        users.append(np.broadcast_to(np.asarray(columns["user"])[:, None], items_RW.shape)[real_RW])
        items.append(items_RW[real_RW])
    return Cooccurrence(_cosine(np.concatenate(users), np.concatenate(items), split.schema.items), last)


def _cosine(user_n: np.ndarray, item_n: np.ndarray, num_items: int) -> csr_matrix:
    """Unknown users (0) are many people in one and do not count, nor do unknown items (0)."""
    known_n = (user_n > 0) & (item_n > 0)
    pair = np.unique(user_n[known_n].astype(np.int64) * num_items + item_n[known_n])
    shape = (int(user_n.max(initial=0)) + 1, num_items)
    sets_UI = csr_matrix((np.ones(len(pair), np.float32), (pair // num_items, pair % num_items)), shape=shape)
    norm_I = np.sqrt(np.asarray(sets_UI.sum(axis=0)).ravel())
    unit_UI = sets_UI @ diags(1 / np.maximum(norm_I, 1))
    return csr_matrix(unit_UI.T @ unit_UI, dtype=np.float32)
