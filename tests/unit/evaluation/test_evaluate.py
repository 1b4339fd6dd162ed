"""Evaluation of floors and ceilings on small random data: values, means, intervals, names, files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from factories import make_data, make_schema
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.data.schema import FeedbackKind
from slatewise.errors import ConfigError, DataError
from slatewise.evaluation.entrants import Entrant
from slatewise.evaluation.offline import Config, default_metrics, evaluate
from slatewise.evaluation.policies import ScorePolicy, floors_and_ceilings
from slatewise.evaluation.ranking import rank_by_score, uniform_BN
from slatewise.evaluation.results import Evaluation, Row, clusters_of, estimate
from slatewise.types import Ranking

QUICK = Config(latency=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return make_data(
        tmp_path_factory.mktemp("data") / "d", make_schema(exposed=5), rows={"test": 60}, fewest=3
    )


@pytest.fixture(scope="module")
def table(data: PreparedData) -> dict[str, Row]:
    return {row.policy: row for row in evaluate(floors_and_ceilings(data), data, config=QUICK).table()}


def test_every_floor_and_ceiling_is_there(table: dict[str, Row]) -> None:
    kinds = {name: row.kind for name, row in table.items()}
    assert kinds == {
        "random": "floor", "retriever": "floor", "inverted-retriever": "floor", "popularity": "floor",
        "geometry": "floor", "cooccurrence": "floor",
        "logged": "ceiling", "exposed-random": "ceiling", "oracle": "ceiling",
    }  # fmt: skip


def test_the_oracle_is_the_ceiling_of_every_metric(table: dict[str, Row]) -> None:
    for name in ("ndcg@4", "average-precision@4", "auc", "within-ndcg@4", "within-auc"):
        assert table["oracle"].metrics[name] == pytest.approx(1.0)
    for name in ("precision@4", "recall@4", "f1@4"):
        assert all(row.metrics[name] <= table["oracle"].metrics[name] + 1e-12 for row in table.values())


def test_knowing_what_was_exposed_beats_knowing_nothing(table: dict[str, Row]) -> None:
    assert table["exposed-random"].metrics["auc"] > table["random"].metrics["auc"] + 0.1
    assert table["exposed-random"].metrics["exposed-share@4"] == 1.0
    assert table["logged"].metrics["exposed-share@4"] == 1.0
    assert table["retriever"].metrics["within-auc"] > 0.6


def test_a_score_and_its_opposite_have_opposite_auc(table: dict[str, Row]) -> None:
    assert table["retriever"].metrics["auc"] + table["inverted-retriever"].metrics["auc"] == pytest.approx(
        1.0
    )


def test_metrics_are_left_out_where_labels_are_unknown(tmp_path: Path) -> None:
    data = make_data(tmp_path / "d", unexposed_is_negative=False)
    assert default_metrics(data) == ("within-ndcg@4", "within-auc")
    assert "oracle" not in {policy.name for policy in floors_and_ceilings(data)}
    shown = make_data(tmp_path / "e", make_schema(exposed=10), unexposed_is_negative=False)
    assert "auc" in default_metrics(shown)
    assert not any(name.startswith(("within", "exposed")) for name in default_metrics(shown))


def test_batch_size_changes_nothing(data: PreparedData) -> None:
    policies = floors_and_ceilings(data, fitted=False)
    whole = evaluate(policies, data, config=QUICK)
    parts = evaluate(policies, data, config=Config(batch_size=7, latency=0))
    for policy, columns in whole.values.items():
        for metric, values in columns.items():
            np.testing.assert_allclose(parts.values[policy][metric], values, atol=1e-12)


def test_f1_of_the_table_is_that_of_mean_precision_and_mean_recall(tmp_path: Path) -> None:
    data = make_data(tmp_path / "d")
    found = evaluate(
        floors_and_ceilings(data, fitted=False),
        data,
        metrics=["f1@4", "precision@4", "recall@4"],
        config=QUICK,
    )
    for row in found.table():
        some = ~np.isnan(found.value(row.policy, "recall@4"))
        precision = found.value(row.policy, "precision@4")[some].mean()
        recall = found.value(row.policy, "recall@4")[some].mean()
        assert row.metrics["f1@4"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_the_interval_of_f1_is_the_bootstraps(tmp_path: Path) -> None:
    data = make_data(tmp_path / "d", make_schema(users=600), rows={"test": 500})
    found = evaluate(
        [floors_and_ceilings(data, fitted=False)[1]],
        data,
        metrics=["f1@4", "precision@4", "recall@4"],
        config=QUICK,
    )
    row, rng = found.table()[0], np.random.default_rng(0)
    precision, recall = (found.value("retriever", f"{name}@4") for name in ("precision", "recall"))
    some = np.flatnonzero(~np.isnan(recall))
    draws = []
    for _ in range(2000):
        picked = rng.choice(some, len(some))
        p, r = precision[picked].mean(), recall[picked].mean()
        draws.append(2 * p * r / (p + r))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert row.high["f1@4"] - row.low["f1@4"] == pytest.approx(high - low, rel=0.15)


def test_a_limit_takes_requests_from_the_whole_split(data: PreparedData) -> None:
    found = evaluate(floors_and_ceilings(data, fitted=False), data, config=Config(limit=6, latency=0))
    assert found.request.tolist() == [0, 10, 20, 30, 40, 50]
    whole = evaluate(floors_and_ceilings(data, fitted=False), data, config=QUICK)
    np.testing.assert_array_equal(found.value("random", "auc"), whole.value("random", "auc")[found.request])


def test_target_weights_make_the_labels(tmp_path: Path) -> None:
    kinds = (FeedbackKind(name="click", binary=True), FeedbackKind(name="buy", binary=True))
    data = make_data(tmp_path / "d", make_schema(feedback=kinds))
    policies = floors_and_ceilings(data.with_target({"buy": 2.0}), fitted=False)
    found = evaluate(policies, data.with_target({"buy": 2.0}), metrics=["gain@4"], config=QUICK)
    feedback = data.split("test").columns["feedback"]
    np.testing.assert_allclose(found.value("oracle", "gain@4"), 2 * feedback[:, :, 1].sum(1))


def test_saved_values_come_back(data: PreparedData, tmp_path: Path) -> None:
    found = evaluate(floors_and_ceilings(data, fitted=False), data, config=QUICK)
    found.save(tmp_path / "values.arrow")
    again = Evaluation.load(tmp_path / "values.arrow")
    assert again.about == found.about
    assert again.table() == found.table()
    np.testing.assert_array_equal(again.value("random", "auc"), found.value("random", "auc"))
    assert [path.name for path in tmp_path.iterdir()] == ["values.arrow"]
    (tmp_path / "values.arrow").write_bytes(b"ARROW1 no")
    with pytest.raises(DataError, match=r"values\.arrow cannot be read"):
        Evaluation.load(tmp_path / "values.arrow")


def test_latency_is_measured_and_threads_come_back(data: PreparedData) -> None:
    threads = torch.get_num_threads()
    row = evaluate(floors_and_ceilings(data, fitted=False)[:1], data, config=Config(latency=8)).table()[0]
    assert row.ms_single is not None
    assert row.ms_batch is not None
    assert 0 < row.ms_batch < row.ms_single < 1000
    assert torch.get_num_threads() == threads


@dataclass(frozen=True)
class Card:
    config: dict[str, int]
    seed: int


@dataclass(frozen=True)
class FakeRanker:
    """Has what a ranker has: tables go to ``rank``, batches to ``rank_batch``."""

    name: str
    card: Card
    path: Path

    def rank(self, requests: object) -> None:
        raise AssertionError("batches must not go to rank")

    def rank_batch(self, batch: ListBatch) -> Ranking:
        return rank_by_score(
            uniform_BN(self.card.seed, batch.request_B, batch.num_candidates), batch.mask_BN, 4
        )


def test_runs_of_one_config_are_seeds_of_one_row(data: PreparedData) -> None:
    runs = [FakeRanker("dnn", Card({"width": 8}, seed), Path(f"run{seed}")) for seed in (1, 2, 3)]
    other = FakeRanker("dnn", Card({"width": 9}, 1), Path("wide"))
    found = evaluate([*runs, other], data, metrics=["auc"], config=QUICK)
    rows = {row.policy: row for row in found.table()}
    assert {name: row.seeds for name, row in rows.items()} == {"dnn (run1)": 3, "dnn (wide)": 1}
    seeds = rows["dnn (run1)"]
    means = [np.nanmean(found.value(p.name, "auc")) for p in found.about.policies if p.group == seeds.policy]
    assert len(means) == 3
    assert seeds.metrics["auc"] == pytest.approx(np.mean(means))
    assert seeds.std is not None
    assert seeds.std["auc"] == pytest.approx(np.std(means, ddof=1))
    assert rows["dnn (wide)"].std is None


def test_a_floor_gives_way_to_the_ranker_of_its_name(data: PreparedData) -> None:
    """A recipe's row "popularity" has seeds and a retriever; the floor of that name has not, and made its means NaN."""
    floors = floors_and_ceilings(data, fitted=False)
    assert floors[0].name == "random"
    runs = [FakeRanker("random", Card({}, seed), Path(f"run{seed}")) for seed in (1, 2)]
    found = evaluate([*floors, *runs], data, metrics=["auc"], config=QUICK)
    members = [(p.name, p.kind) for p in found.about.policies if p.group == "random"]
    assert members == [("random seed 1", "ranker"), ("random seed 2", "ranker")]
    assert {p.group for p in found.about.policies} == {one.name for one in floors}


def test_two_policies_of_one_name_are_refused(data: PreparedData) -> None:
    one = ScorePolicy("mine", lambda batch: batch.mask_BN.float(), 4)
    with pytest.raises(ConfigError, match="two policies are called 'mine'"):
        evaluate([one, one], data, config=QUICK)


def twice(batch: ListBatch) -> Ranking:
    good = rank_by_score(batch.mask_BN.float(), batch.mask_BN, 4)
    return Ranking(good.order_BL[:, [0, 0, 2, 3]], good.mask_BL, good.score_BN)


def unreal(batch: ListBatch) -> Ranking:
    return rank_by_score(-batch.mask_BN.float(), torch.ones_like(batch.mask_BN), 4)


def short(batch: ListBatch) -> Ranking:
    return rank_by_score(batch.mask_BN.float(), batch.mask_BN, 3)


def no_number(batch: ListBatch) -> Ranking:
    good = rank_by_score(batch.mask_BN.float(), batch.mask_BN, 4)
    return Ranking(good.order_BL, good.mask_BL, good.score_BN * torch.nan)


@pytest.mark.parametrize(
    ("rank", "message"),
    [(twice, "twice"), (unreal, "must list 4"), (short, "must list 4"), (no_number, "number")],
)
def test_a_ranking_that_is_none_is_refused(data: PreparedData, rank: object, message: str) -> None:
    with pytest.raises(DataError, match=f"policy 'bad'.*{message}"):
        evaluate([Entrant("bad", rank, "bad")], data, config=QUICK)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metrics", "config", "message"),
    [
        (["ndgc@4"], QUICK, "Did you mean 'ndcg'"),
        (["true-value"], QUICK, "needs data from a simulator"),
        (["oracle_share"], QUICK, "needs data from a simulator"),
        ([], QUICK, "at least one metric"),
        (["auc"], Config(limit=0), "limit is 0, but must be at least 1"),
        (["auc"], Config(batch_size=0), "batch_size is 0"),
    ],
)
def test_wrong_settings_are_named(
    data: PreparedData, metrics: list[str], config: Config, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(floors_and_ceilings(data, fitted=False), data, metrics=metrics, config=config)


def test_asking_for_what_was_not_measured_names_what_was(data: PreparedData) -> None:
    found = evaluate(floors_and_ceilings(data, fitted=False), data, metrics=["within_ndcg@4"], config=QUICK)
    assert found.value("random", "within_ndcg@4").shape == (60,)
    with pytest.raises(ConfigError, match=r"'auc' was not measured.*within-ndcg@4"):
        found.value("random", "auc")
    with pytest.raises(ConfigError, match="Did you mean 'random'"):
        found.value("randon", "within-ndcg@4")


def test_random_numbers_depend_on_request_and_place_alone() -> None:
    together = uniform_BN(3, torch.tensor([5, 9, 5]), 200)
    assert torch.equal(together[0], together[2])
    assert not torch.equal(together[0], together[1])
    assert torch.equal(uniform_BN(3, torch.tensor([9]), 200)[0], together[1])
    assert not torch.equal(uniform_BN(4, torch.tensor([9]), 200)[0], together[1])
    many = uniform_BN(0, torch.arange(2000), 50)
    assert float(many.mean()) == pytest.approx(0.5, abs=0.005)
    assert abs(np.corrcoef(many[:, 0], many[:, 1])[0, 1]) < 0.1
    assert (many >= 0).all()
    assert (many < 1).all()


def test_a_real_candidate_scored_minus_infinity_comes_before_an_unreal_one() -> None:
    mask_BN = torch.tensor([[True, True, False, False]])
    ranking = rank_by_score(torch.tensor([[-torch.inf, 1.0, 9.0, 9.0]]), mask_BN, 3)
    assert ranking.order_BL[0, :2].tolist() == [1, 0]
    assert ranking.mask_BL.tolist() == [[True, True, False]]


def test_requests_of_one_user_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(1, 51), 10)
    value = rng.normal(size=50)[user - 1] + 0.1 * rng.normal(size=500)
    alone, together = estimate(value, np.arange(500)), estimate(value, clusters_of(user))
    assert together.mean == alone.mean == pytest.approx(value.mean())
    usual = 1.96 * value.std(ddof=1) / np.sqrt(500)
    assert (alone.high - alone.low) / 2 == pytest.approx(usual, rel=0.01)
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(np.sqrt(10), rel=0.1)


def test_unknown_users_are_not_one_user() -> None:
    assert len(set(clusters_of(np.array([0, 4, 0, 4, 0])).tolist())) == 4


def test_undefined_values_are_left_out_and_counted() -> None:
    found = estimate(np.array([1.0, np.nan, 3.0]), np.arange(3))
    assert (found.mean, found.count) == (2.0, 2)
    assert np.isnan(estimate(np.array([np.nan]), np.arange(1)).mean)
