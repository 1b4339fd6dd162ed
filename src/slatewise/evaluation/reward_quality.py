"""What a list-value model is worth: its fit to logged feedback and, where a truth is known, its agreement with it.

R-AUC on logs says little about choosing: a model that knows nothing of list order can have the higher one.
The columns that matter are agreement on *near-optimal* lists, where choosing happens, and the prediction's
inflation on the lists that the model itself likes best (the winner's curse).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.evaluation.regression import CalibrationBin, calibration, pcoc, r_auc, rmse
from slatewise.evaluation.truth import Truth, searchable
from slatewise.rng import torch_rng

Value = Callable[[ListBatch, Tensor], Tensor]


class RewardQuality(Frozen):
    """One model's figures; None where neither truth nor labels are known.

    ``r_auc``, ``rmse`` and ``pcoc`` are of the logged lists; ``label_…`` of random lists, where every candidate's label is
    known and feedback knows no order: a model is calibrated on the kind of lists that it has learnt from. ``random`` and
    ``near`` are mean correlations within a request (Pearson, Spearman) between predicted and true values over random lists
    and over lists one or two moves from the optimum. ``own_best`` is predicted over true value of the best of the random
    lists by the model's own opinion. ``calibration`` is the curve on logged lists.
    """

    r_auc: float
    rmse: float
    pcoc: float
    label_r_auc: float | None = None
    label_rmse: float | None = None
    label_pcoc: float | None = None
    random_pearson: float | None = None
    random_spearman: float | None = None
    near_pearson: float | None = None
    near_spearman: float | None = None
    own_best: float | None = None
    calibration: tuple[CalibrationBin, ...] = ()


def reward_quality(
    value: Value,
    data: PreparedData,
    *,
    split: str = "test",
    requests: int = 1000,
    lists: int = 100,
    seed: int = 0,
) -> RewardQuality:
    """Measure a list-value model.

    Args:
        value: (batch, lists_BGL) to predicted values (B, G), in units of the data's target.
        requests: requests used for the fit to logs; the first 200 of them for agreement with the truth.
        lists: lists a request for agreement, and a tenth of that for labels.
    """
    p, y = _logged(value, data, split, requests)
    schema, known = data.schema, dict[str, Any]()
    if data.manifest.truth is not None and searchable(schema.candidates, schema.length):
        known |= _agreement(value, data, split, lists, seed)
    if data.manifest.unexposed_is_negative or schema.exposed >= schema.candidates > schema.length:
        known |= _labelled(value, data, split, requests, max(1, lists // 10), seed)
    return RewardQuality(
        r_auc=r_auc(p, y), rmse=rmse(p, y), pcoc=pcoc(p, y), calibration=tuple(calibration(p, y)), **known
    )


def _logged(
    value: Value, data: PreparedData, split: str, requests: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted and observed value of logged lists, each as long as it was; of none where nothing was shown."""
    opened, weights = data.split(split).head(requests), data.manifest.target_weights()
    predicted, observed = [np.zeros(0)], [np.zeros(0)]
    for batch in opened.batches(256):
        size_B = batch.exposed_mask_BE[:, : data.schema.length].sum(1)
        for size in filter(None, size_B.unique().tolist()):
            part = batch.take(size_B == size)
            predicted.append(value(part, part.exposed_BE[:, None, :size])[:, 0].double().cpu().numpy())
            observed.append(part.gain_BE(weights)[:, :size].sum(1).double().numpy())
    return np.concatenate(predicted), np.concatenate(observed)


def _labelled(
    value: Value, data: PreparedData, split: str, requests: int, lists: int, seed: int
) -> dict[str, float]:
    """Fit to the labels of random lists, of requests with candidates enough to fill one; nothing where there are none."""
    opened, weights = data.split(split).head(requests), data.manifest.target_weights()
    rng, length = torch_rng(seed, "reward-quality", "labels"), data.schema.length
    predicted, observed = [], []
    for batch in opened.batches(256):
        part = batch.take(batch.mask_BN.sum(1) >= length)
        if not part.size:
            continue
        lists_BGL = _random_lists(part, lists, length, rng)
        label_BGN = part.label_BN(weights).double()[:, None].expand(-1, lists, -1)
        predicted.append(value(part, lists_BGL).double().cpu().numpy().ravel())
        observed.append(label_BGN.gather(2, lists_BGL).sum(2).numpy().ravel())
    if not predicted:
        return {}
    p, y = np.concatenate(predicted), np.concatenate(observed)
    return {"label_r_auc": r_auc(p, y), "label_rmse": rmse(p, y), "label_pcoc": pcoc(p, y)}


def _agreement(value: Value, data: PreparedData, split: str, lists: int, seed: int) -> dict[str, Any]:
    truth, batch = Truth(data), data.split(split).batch(slice(0, 200))
    rng = torch_rng(seed, "reward-quality")
    random_BGL = _random_lists(batch, lists, data.schema.length, rng)
    near_BGL = _near(truth.optimum(batch, split).order_BL, batch, lists, rng)
    figures = {}
    for name, lists_BGL in (("random", random_BGL), ("near", near_BGL)):
        p, t = value(batch, lists_BGL).double().cpu().numpy(), truth.value(batch, lists_BGL).cpu().numpy()
        figures[f"{name}_pearson"] = mean_correlation(p, t)
        figures[f"{name}_spearman"] = mean_correlation(stats.rankdata(p, axis=1), stats.rankdata(t, axis=1))
        if name == "random":
            best, rows = p.argmax(1), np.arange(len(p))
            figures["own_best"] = float(p[rows, best].mean() / t[rows, best].mean())
    return figures


def mean_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over rows (requests) of the correlation of (B, G) values; rows without spread are left out."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    norm = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    defined = norm > 0
    return float(((a * b).sum(1)[defined] / norm[defined]).mean()) if defined.any() else float("nan")


def _random_lists(batch: ListBatch, lists: int, length: int, rng: torch.Generator) -> Tensor:
    key = torch.rand(batch.size, lists, batch.num_candidates, generator=rng)
    return key.masked_fill(~batch.mask_BN[:, None], -1).topk(length, dim=2).indices


def _near(best_BL: Tensor, batch: ListBatch, lists: int, rng: torch.Generator) -> Tensor:
    """Lists made from the best one by one or two moves: a swap of two places, or a replacement."""
    b, length = best_BL.shape
    full = torch.rand(b, lists, batch.num_candidates, generator=rng).masked_fill(~batch.mask_BN[:, None], -1)
    listed = torch.zeros(b, lists, batch.num_candidates).scatter(
        2, best_BL[:, None].expand(-1, lists, -1), 2.0
    )
    # an arrangement of all candidates: the best list's items in front (in its order), the others behind at random
    front = torch.zeros_like(full).scatter(
        2, best_BL[:, None].expand(-1, lists, -1), torch.arange(length, 0, -1.0).expand(b, lists, -1)
    )
    order = torch.where(listed > 0, 10 + front, full).argsort(dim=2, descending=True)
    real = batch.mask_BN.sum(1)[:, None]
    for move in range(2):
        i = (torch.rand(b, lists, generator=rng) * real.clamp(max=length)).long()
        j = (torch.rand(b, lists, generator=rng) * real).long()
        j = torch.where(
            (torch.rand(b, lists, generator=rng) < 0.5) & (move == 1), i, j
        )  # half make only one move
        at_i, at_j = order.gather(2, i[..., None]), order.gather(2, j[..., None])
        order = order.scatter(2, i[..., None], at_j).scatter(2, j[..., None], at_i)
    return order[:, :, :length]
