"""Grading by a judge: ranks by hand, ties, exactness against enumeration, short requests, and a judge's own figures."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from batches import make_batch
from factories import make_data
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError
from slatewise.evaluation import judging
from slatewise.evaluation.compare import paired
from slatewise.evaluation.entrants import Entrant
from slatewise.evaluation.judge_quality import ORDERS, SETS, judge_quality, order_share
from slatewise.evaluation.judge_training import JudgeConfig
from slatewise.evaluation.judges import Judge, Self
from slatewise.evaluation.judging import Bench, OwnBest
from slatewise.evaluation.offline import Config, evaluate
from slatewise.evaluation.words import label, written
from slatewise.types import Ranking


class Appeal(Judge):
    """A list is worth its items' appeals, each weighted by its place (``fade`` 1: in any order)."""

    def __init__(self, fade: float = 1.0, seed: int = 0) -> None:
        self.fade, self.order_free, self.seed = fade, fade == 1.0, seed

    def encode(self, batch: ListBatch) -> Tensor:
        key = batch.request_B[:, None] * 131 + batch.candidates_BN * 17 + self.seed
        return torch.sin(key.double()).abs()

    def value_of(self, memory: Any, lists_BGL: Tensor) -> Tensor:
        weight_L = self.fade ** torch.arange(lists_BGL.shape[2], dtype=torch.float64)
        return (memory[:, None].expand(-1, lists_BGL.shape[1], -1).gather(2, lists_BGL) * weight_L).sum(2)


def ranking(order_BL: Tensor, batch: ListBatch) -> Ranking:
    length_B1 = batch.mask_BN.sum(1, keepdim=True)
    return Ranking(order_BL, torch.arange(order_BL.shape[1]) < length_B1, torch.zeros(batch.mask_BN.shape))


def bench(judge: Judge, **config: Any) -> Bench:
    return Bench("j", judge, JudgeConfig(kind="gru", **{"lists": 2000, **config}), 3)


def graded(judge: Judge, batch: ListBatch, order_BL: Tensor, **config: Any) -> dict[str, np.ndarray]:
    found = bench(judge, **config).measure(batch, {"p": ranking(order_BL, batch)})["p"]
    return {name.removesuffix("[j]"): value.numpy() for name, value in found.items()}


def every_value(judge: Judge, batch: ListBatch, candidates: int) -> Tensor:
    lists_ML = torch.tensor(list(permutations(range(candidates), 3)))
    return judge.value_of(judge.encode(batch), lists_ML.expand(batch.size, -1, -1))


@pytest.mark.parametrize("fade", [1.0, 0.7])
def test_rank_and_regret_are_those_of_all_lists(fade: float) -> None:
    """5 candidates, 3 places: 60 lists counted by brute force; also for sets, which stand for 6 lists each."""
    batch, judge = make_batch(8, candidates=5, exposed=3, length=3), Appeal(fade)
    order_BL = torch.stack([torch.randperm(5)[:3] for _ in range(8)])
    found, all_BM = graded(judge, batch, order_BL), every_value(judge, batch, 5)
    own_B = judge.value_of(judge.encode(batch), order_BL[:, None])[:, 0]
    better_B = (all_BM > own_B[:, None] + 1e-5).sum(1)
    assert np.array_equal(found["rank"], 1.0 + better_B.numpy())
    assert found["regret"] == pytest.approx((all_BM.amax(1) - own_B).numpy())
    spread_B = all_BM.amax(1) - all_BM.mean(1)
    assert found["regret-share"] == pytest.approx(((all_BM.amax(1) - own_B) / spread_B).numpy())
    share_B = (better_B / 60).numpy()
    if fade == 1.0:  # every set is compared with: exact
        assert np.array_equal(found["hr@10%"], share_B < 0.1)
    else:  # 2,000 random lists: standard error at most 0.011
        clear = np.abs(share_B - 0.1) > 0.04
        assert np.array_equal(found["hr@10%"][clear], (share_B < 0.1)[clear])


def test_the_best_list_is_first_and_the_worst_is_last() -> None:
    batch, judge = make_batch(6, candidates=6, exposed=3, length=3), Appeal(0.7)
    sorted_BN = judge.encode(batch).argsort(dim=1, descending=True)
    best, worst = graded(judge, batch, sorted_BN[:, :3]), graded(judge, batch, sorted_BN[:, [5, 4, 3]])
    for name in ("hr@0.1%", "hr@1%", "hr@3%", "hr@10%", "rank"):
        assert set(best[name]) == {1.0}, name
    assert best["regret"].max() < 1e-9
    assert set(worst["hr@10%"]) == {0.0}
    assert worst["rank"].min() > 100
    lowest = graded(judge, batch, sorted_BN[:, [3, 4, 5]])
    assert (worst["rank"] != lowest["rank"]).any()  # order counts


def test_the_threshold_is_strict_and_ties_count_in_favour() -> None:
    """Eq. 14: rank / |S| < K / 100 with the rank the number of better lists. 10 sets of 5 choose 3: one better is 10 %."""
    batch, judge = make_batch(1, candidates=5, exposed=3, length=3), Appeal()
    sorted_N = judge.encode(batch)[0].argsort(descending=True)
    second = graded(judge, batch, sorted_N[[0, 1, 3]][None])
    assert second["rank"] == [7.0]  # six orders of the best set
    assert (second["hr@10%"], second["ties"]) == ([0.0], [0.1])
    assert graded(judge, batch, sorted_N[[0, 1, 2]][None])["hr@10%"] == [1.0]

    class Indifferent(Appeal):
        def value_of(self, memory: Any, lists_BGL: Tensor) -> Tensor:
            return torch.zeros(lists_BGL.shape[:2])

    found = graded(Indifferent(0.7), batch, sorted_N[None, :3])
    assert (found["hr@0.1%"], found["ties"], found["rank"]) == ([1.0], [1.0], [1.0])


def test_requests_with_fewer_candidates_are_graded_among_their_own_lists() -> None:
    batch, judge = make_batch(30, fewest=2, candidates=6, exposed=3, length=3), Appeal(0.7)
    own = OwnBest(bench(judge))
    found = bench(judge).measure(batch, {"p": own.rank(batch)})["p"]
    assert set(batch.mask_BN.sum(1).tolist()) == {2, 3, 4, 5, 6}
    assert found["rank[j]"].tolist() == [1.0] * 30
    assert own.rank(batch).mask_BL.sum(1).tolist() == batch.mask_BN.sum(1).clamp(max=3).tolist()


def test_only_the_first_requests_are_exact_where_order_counts() -> None:
    batch, order_BL = make_batch(6, candidates=5, exposed=3, length=3), torch.arange(3).expand(6, -1)
    assert (
        np.isnan(graded(Appeal(0.7), batch, order_BL, exact=4)["rank"]).tolist() == [False] * 4 + [True] * 2
    )
    assert not np.isnan(graded(Appeal(), batch, order_BL, exact=0)["rank"]).any()
    one = bench(Appeal(0.7), exact=4)
    parts = [batch.take(torch.arange(start, start + 3)) for start in (0, 3)]
    ranks = [one.measure(part, {"p": ranking(order_BL[:3], part)})["p"]["rank[j]"] for part in parts]
    assert torch.cat(ranks).isnan().tolist() == [False] * 4 + [True] * 2


def test_each_seed_is_graded_by_its_own_evaluator() -> None:
    batch = make_batch(5, candidates=5, exposed=3, length=3)
    mine, other = Appeal(seed=1), Appeal(seed=2)
    order_BL = mine.encode(batch).argsort(dim=1, descending=True)[:, :3]
    policies = {"a": ranking(order_BL, batch), "b": ranking(order_BL, batch)}
    both = Bench("j", mine, JudgeConfig(kind="gru"), 3, of_policy={"b": other})
    found = both.measure(batch, policies)
    assert set(found["a"]["rank[j]"].tolist()) == {1.0}
    assert torch.equal(found["b"]["rank[j]"], torch.from_numpy(graded(other, batch, order_BL)["rank"]))
    assert 0 < both.ties() <= 0.2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return make_data(tmp_path_factory.mktemp("data") / "d", rows={"test": 120})


class Labels(Appeal):
    """Knows what will be clicked."""

    def encode(self, batch: ListBatch) -> Tensor:
        return batch.label_BN([1.0]).double()


def test_an_evaluation_has_a_judges_metrics_beside_the_labels(data: PreparedData, tmp_path: Path) -> None:
    seat = Bench("knows", Labels(), JudgeConfig(kind="gru", lists=1000), 4)
    rows = [Entrant("first", lambda batch: ranking(torch.arange(4).expand(batch.size, -1), batch), "first")]
    found = evaluate(
        [OwnBest(seat), *rows],
        data,
        metrics=["hr@1%[knows]", "gain@4", "regret[knows]"],
        judges=[seat],
        config=Config(latency=0, batch_size=50),
    )
    found.save(tmp_path / "values.arrow")
    best, first = found.table()
    assert (best.policy, best.kind) == ("best of knows", "ceiling")
    assert (best.metrics["hr@1%[knows]"], best.metrics["regret[knows]"]) == (1.0, 0.0)
    gap = best.metrics["gain@4"] - first.metrics["gain@4"]
    assert first.metrics["regret[knows]"] == pytest.approx(gap)
    assert 0 < first.metrics["hr@1%[knows]"] < 1
    test = paired(found.value("best of knows", "hr@1%[knows]"), found.value("first", "hr@1%[knows]"))
    assert (test.losses, test.wins) == (0, round(120 * (1 - first.metrics["hr@1%[knows]"])))
    assert test.p_sign == pytest.approx(2 * 0.5**test.wins)
    with pytest.raises(ConfigError, match="Did you mean 'hr@1%\\[knows\\]'"):
        evaluate(rows, data, metrics=["hr@1%[know]"], judges=[seat])
    assert (label("hr@1%[knows]"), label("regret[knows]")) == ("hr@1%[knows]", "regret[knows] ↓")
    assert written("hr@1%[knows]", 0.5) == "50.00"


def test_all_lists_are_enumerated_only_where_a_metric_asks_for_it(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(candidates: int, length: int) -> None:
        raise AssertionError("enumerated")

    monkeypatch.setattr(judging, "all_lists", refuse)
    seat = Bench("j", Appeal(0.5), JudgeConfig(kind="gru", lists=200), 4)
    evaluate([OwnBest(seat)], data, metrics=["hr@1%[j]"], judges=[seat], config=Config(latency=0))
    assert seat.ties() >= 0
    with pytest.raises(AssertionError, match="enumerated"):
        evaluate([OwnBest(seat)], data, metrics=["rank[j]"], judges=[seat], config=Config(latency=0))


def test_self_is_the_reward(data: PreparedData) -> None:
    class Reward:
        def encode(self, batch: ListBatch) -> Tensor:
            return Labels().encode(batch)

        def value_of(self, memory: Tensor, lists_BGL: Tensor) -> Tensor:
            return Appeal(0.5).value_of(memory, lists_BGL)

    batch, judge = data.split("test").batch(slice(0, 9)), Self(Reward())
    lists_BGL = torch.stack([torch.randperm(10)[:4] for _ in range(9 * 5)]).view(9, 5, 4)
    value_BG = judge.value_of(judge.encode(batch), lists_BGL)
    assert torch.equal(value_BG, Appeal(0.5).value_of(Labels().encode(batch), lists_BGL))
    assert not judge.order_free


def test_order_share_finds_what_was_put_in() -> None:
    """Between sets variance 4, within 1: a fifth; no order effect: nothing."""
    rng = torch.Generator().manual_seed(0)
    set_BS1 = 2 * torch.randn(400, SETS, 1, generator=rng, dtype=torch.float64)
    noise_BSO = torch.randn(400, SETS, ORDERS, generator=rng, dtype=torch.float64)
    assert order_share((set_BS1 + noise_BSO).flatten(1)) == pytest.approx(0.2, abs=0.02)
    assert order_share(set_BS1.expand(-1, -1, ORDERS).flatten(1)) == 0.0
    assert order_share(noise_BSO.flatten(1)) == pytest.approx(1.0, abs=0.03)


def test_a_judges_figures(data: PreparedData) -> None:
    knows = judge_quality(Labels(), data, evaluator=Labels(0.999))
    assert knows.truth == pytest.approx(1.0)
    assert knows.pcoc == pytest.approx(1.0)
    assert knows.order_share == pytest.approx(0.0, abs=1e-12)
    assert knows.agreement == pytest.approx(1.0, abs=0.1)
    guesses = judge_quality(Appeal(0.5), data)
    assert guesses.agreement is None
    assert abs(guesses.truth or 0.0) < 0.1
    assert 0.05 < guesses.order_share < 0.9
