"""Laws that every metric keeps, on random requests, and agreement with trec_eval."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slatewise.errors import ConfigError
from slatewise.metrics.named import parse
from slatewise.names import available
from slatewise.types import Ranking, full_order_scores

NAMES = [
    "precision@6", "recall@6", "f1@6", "hit@6", "reciprocal-rank@6", "average-precision@6",
    "average-precision@6:over=positives", "ndcg@6", "ndcg@4:gains=linear", "ndcg@6:gains=exponential",
    "auc", "within-auc", "within-ndcg@6", "exposed-share@6", "gain@6",
]  # fmt: skip
BOUNDED = [name for name in NAMES if name != "gain@6"]


def case(
    seed: int, requests: int = 24, candidates: int = 9, length: int = 6
) -> tuple[Ranking, Tensor, Tensor, Tensor]:
    """Random requests of 1 to N candidates with graded labels on some exposed ones, and a random ranking."""
    rng = torch.Generator().manual_seed(seed)
    count_B1 = torch.randint(1, candidates + 1, (requests, 1), generator=rng)
    mask_BN = torch.arange(candidates) < count_B1
    observed_BN = (torch.rand(requests, candidates, generator=rng) < 0.6) & mask_BN
    label_BN = torch.randint(0, 4, (requests, candidates), generator=rng).float() * observed_BN
    return (
        by_score(torch.randn(requests, candidates, generator=rng), mask_BN, length),
        label_BN,
        observed_BN,
        mask_BN,
    )


def by_score(score_BN: Tensor, mask_BN: Tensor, length: int) -> Ranking:
    order_BN = score_BN.masked_fill(~mask_BN, -torch.inf).argsort(dim=1, descending=True, stable=True)
    mask_BL = torch.arange(length) < mask_BN.sum(1, keepdim=True)
    order_BL = order_BN[:, :length] * mask_BL
    return Ranking(order_BL, mask_BL, full_order_scores(order_BL, mask_BL, score_BN, mask_BN))


def test_every_metric_is_under_law() -> None:
    assert {name.partition("@")[0] for name in NAMES} == set(available("metrics"))


@pytest.mark.parametrize("name", BOUNDED)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_values_are_shares(name: str, seed: int) -> None:
    value_B = parse(name).compute(*case(seed))
    value_B = value_B[~value_B.isnan()]
    assert ((value_B >= 0) & (value_B <= 1 + 1e-12)).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_candidate_axis_has_no_order(name: str, seed: int) -> None:
    ranking, label_BN, observed_BN, mask_BN = case(seed)
    move_N = torch.randperm(mask_BN.shape[1], generator=torch.Generator().manual_seed(seed))
    place_N = move_N.argsort()
    moved = Ranking(place_N[ranking.order_BL], ranking.mask_BL, ranking.score_BN[:, move_N])
    before_B = parse(name).compute(ranking, label_BN, observed_BN, mask_BN)
    after_B = parse(name).compute(moved, label_BN[:, move_N], observed_BN[:, move_N], mask_BN[:, move_N])
    torch.testing.assert_close(after_B, before_B, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_requests_one_by_one(name: str) -> None:
    ranking, *rest = case(5)
    together_B = parse(name).compute(ranking, *rest)
    for row in range(len(together_B)):
        one = Ranking(ranking.order_BL[[row]], ranking.mask_BL[[row]], ranking.score_BN[[row]])
        alone_B = parse(name).compute(one, *(tensor[[row]] for tensor in rest))
        torch.testing.assert_close(alone_B, together_B[[row]], equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_order_beats_the_labels_own(name: str, seed: int) -> None:
    if name == "exposed-share@6":
        return  # says where items come from, not how good they are
    ranking, label_BN, observed_BN, mask_BN = case(seed)
    best = by_score(label_BN, mask_BN, ranking.order_BL.shape[1])
    best_B = parse(name).compute(best, label_BN, observed_BN, mask_BN)
    value_B = parse(name).compute(ranking, label_BN, observed_BN, mask_BN)
    assert (best_B.isnan() == value_B.isnan()).all()
    assert (best_B.nan_to_num() >= value_B.nan_to_num() - 1e-12).all()
    if name.startswith(("ndcg", "auc", "within", "hit", "reciprocal")) or name == "average-precision@6":
        assert best_B.nan_to_num(1.0).allclose(torch.ones_like(best_B))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_auc_counts_pairs(seed: int) -> None:
    ranking, label_BN, observed_BN, mask_BN = case(seed)
    tied = Ranking(ranking.order_BL, ranking.mask_BL, (ranking.score_BN / 3).round())
    value_B = parse("auc").compute(tied, label_BN, observed_BN, mask_BN)
    for row, value in enumerate(value_B.tolist()):
        score, good = tied.score_BN[row][mask_BN[row]].numpy(), (label_BN[row] > 0)[mask_BN[row]].numpy()
        above = score[good][:, None] - score[~good][None, :]
        expected = np.where(above > 0, 1.0, np.where(above == 0, 0.5, 0.0))
        assert value == pytest.approx(expected.mean() if expected.size else np.nan, nan_ok=True)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("precision@6", "P_6"),
        ("recall@6", "recall_6"),
        ("ndcg@6:gains=linear", "ndcg_cut_6"),
        ("average-precision@6:over=positives", "map_cut_6"),
        ("hit@6", "success_6"),
        ("reciprocal-rank", "recip_rank"),
    ],
)
def test_agrees_with_trec_eval(ours: str, theirs: str) -> None:
    ranking, label_BN, observed_BN, mask_BN = case(11, requests=200)
    value_B = parse(ours).compute(ranking, label_BN, observed_BN, mask_BN)
    judged, run = {}, {}
    for row in range(len(value_B)):
        real = mask_BN[row].nonzero().flatten().tolist()
        judged[str(row)] = {str(item): int(label_BN[row, item]) for item in real}
        order = ranking.order_BL[row][ranking.mask_BL[row]].tolist()
        run[str(row)] = {str(item): float(-place) for place, item in enumerate(order)}
    measure = theirs.rsplit("_", 1)[0] + "." + theirs.rsplit("_", 1)[1] if theirs.endswith("_6") else theirs
    found = pytrec_eval.RelevanceEvaluator(judged, {measure}).evaluate(run)
    defined = [row for row in range(len(value_B)) if not value_B[row].isnan()]
    assert len(defined) > 100
    expected = [found[str(row)][theirs] for row in defined]
    np.testing.assert_allclose(
        value_B[defined].numpy(), expected, atol=1e-4
    )  # trec_eval prints 4 digits of some


def test_f1_of_a_table_comes_from_mean_precision_and_recall() -> None:
    metric = parse("f1@6")
    assert [part.name for part in metric.parts] == ["precision@6", "recall@6"]
    pooled = metric.pool(torch.tensor(0.7356, dtype=torch.float64), torch.tensor(0.8804, dtype=torch.float64))
    assert float(pooled) == pytest.approx(0.8015, abs=1e-4)  # the paper's own row: H 73.56, F1 80.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndgc@6", "Did you mean 'ndcg'"),
        ("auc@6", "has no '@'"),
        ("ndcg@0", "at least 1"),
        ("ndcg@six", "at least 1"),
        ("ndcg@6:gain=linear", "gains"),
        ("ndcg@6:gains=cubic", "cubic"),
        ("named", "unknown metric"),
    ],
)
def test_a_wrong_name_gets_one_clear_sentence(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)
