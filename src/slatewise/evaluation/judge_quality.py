"""What a judge is worth: does it agree with the evaluator that it grades, with the labels, and does order move it?"""

from __future__ import annotations

import torch
from scipy import stats

from slatewise.config import Frozen
from slatewise.data.prepared import PreparedData
from slatewise.evaluation.judges import Judge
from slatewise.evaluation.judges._shared import SharedLists, random_lists
from slatewise.evaluation.judging import by_count
from slatewise.evaluation.reward_quality import mean_correlation
from slatewise.rng import torch_rng

SETS, ORDERS = 20, 20  # order share: so many orders of so many sets


class JudgeQuality(Frozen):
    """A judge's figures on random lists of test requests; None where there is nothing to compare with.

    ``agreement`` and ``truth``: mean rank correlation within a request (Spearman) with the evaluator and with the
    lists' labelled feedback. ``pcoc``: predicted over labelled feedback. ``order_share``: the share of the variance
    of its values within a request that the order of a list's items explains, mean over requests.
    """

    order_share: float
    agreement: float | None = None
    truth: float | None = None
    pcoc: float | None = None


def judge_quality(
    judge: Judge,
    data: PreparedData,
    *,
    evaluator: Judge | None = None,
    split: str = "test",
    requests: int = 500,
    lists: int = 200,
    seed: int = 0,
) -> JudgeQuality:
    """Measure a judge.

    Args:
        evaluator: the reward that rankers learnt from, as a judge.
        requests, lists: so many of the first requests with the commonest number of candidates, so many lists of each.
    """
    batch = data.split(split).head(requests).batch(slice(0, requests))
    rows_M, count = max(by_count(batch), key=lambda group: len(group[0]))
    batch, length = batch.take(rows_M), min(data.schema.length, count)
    shared = random_lists(count, length, lists, seed + 1)  # not the lists that ranks are counted among

    def value(who: Judge, these: SharedLists) -> torch.Tensor:
        return who.value_of_shared(who.encode(batch), batch.size, these).double().cpu()

    value_BG = value(judge, shared)
    figures = {"order_share": order_share(value(judge, _reordered(shared, seed)))}
    if evaluator is not None and evaluator is not judge:
        figures["agreement"] = _spearman(value_BG, value(evaluator, shared))
    if data.manifest.unexposed_is_negative or bool(batch.observed_BN()[:, :count].all()):
        label_BN = batch.label_BN(data.manifest.target_weights()).double()
        true_BG = label_BN[:, shared.lists_GL].sum(2)
        figures["truth"] = _spearman(value_BG, true_BG)
        figures["pcoc"] = float(value_BG.mean() / true_BG.mean())
    return JudgeQuality(**figures)


def order_share(value_BG: torch.Tensor) -> float:
    """Share of variance within sets, from ``SETS`` random sets in ``ORDERS`` random orders each (one-way, unbiased)."""
    value_BSO = value_BG.view(-1, SETS, ORDERS)
    within_B = value_BSO.var(dim=2).mean(1)
    between_B = (value_BSO.mean(2).var(dim=1) - within_B / ORDERS).clamp(min=0)
    return float((within_B / (within_B + between_B).clamp(min=1e-18)).mean())


def _reordered(shared: SharedLists, seed: int) -> SharedLists:
    """The first ``SETS`` lists, ``ORDERS`` random orders of each."""
    sets_GL = shared.lists_GL[:SETS].repeat_interleave(ORDERS, 0)
    key_GL = torch.rand(sets_GL.shape, generator=torch_rng(seed, "orders"))
    return SharedLists(sets_GL.gather(1, key_GL.argsort(dim=1)), shared.candidates)


def _spearman(a_BG: torch.Tensor, b_BG: torch.Tensor) -> float:
    return mean_correlation(stats.rankdata(a_BG.numpy(), axis=1), stats.rankdata(b_BG.numpy(), axis=1))
