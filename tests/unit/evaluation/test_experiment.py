"""An experiment's numbers: against scipy where units are requests, by hand elsewhere; what is left out is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from slatewise.data.check import normalise
from slatewise.errors import ConfigError, DataError
from slatewise.evaluation.arms import Mean, holm, mean_of, relative_to, sample_ratio, welch
from slatewise.evaluation.experiment import Experiment, judge, read_experiment
from slatewise.evaluation.experiment_report import notes, write
from slatewise.evaluation.results import mean_and_error
from slatewise.evaluation.sequential import Config


def log(count: int = 600, arms: tuple[str, ...] = ("a", "b"), seed: int = 0, **columns) -> pl.DataFrame:
    """Requests of 100 users, each in the arm of his number; 3 items shown."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 100, count)
    table = {
        "request_id": [f"r{at}" for at in range(count)],
        "user_id": user,
        "timestamp": rng.permutation(count),
        "candidates": [[1, 2, 3]] * count,
        "exposed": [[3, 2, 1]] * count,
        "feedback_click": rng.binomial(1, 0.3, (count, 3)).astype(float).tolist(),
        "feedback_value": rng.exponential(1.0, (count, 3)).tolist(),
        "arm": [arms[one % len(arms)] for one in user],
    }
    return normalise(pl.DataFrame(table | columns, strict=False))


def test_with_a_request_a_unit_differences_are_welchs_test() -> None:
    frame = log()
    verdict = judge(read_experiment(frame, "value", "request_id"), control="a")
    a, b = (frame.filter(arm=name)["feedback_value"].list.sum().to_numpy() for name in "ab")
    wanted = stats.ttest_ind(b, a, equal_var=False)
    interval = wanted.confidence_interval()
    request, unit = verdict.differences
    assert (request.arm, request.measure, unit.measure) == ("b", "request", "unit")
    for one in (request, unit):
        np.testing.assert_allclose((one.p, one.low, one.high), (wanted.pvalue, *interval), rtol=1e-9)
        assert one.p_holm == one.p


def test_means_of_dependent_requests() -> None:
    frame = log()
    (a, b) = judge(read_experiment(frame, "click", "user_id")).arms
    own = frame.filter(arm="b").with_columns(total=pl.col("feedback_click").list.sum())
    mean, error, units = mean_and_error(own["total"].to_numpy(), own["user_id"].to_numpy())
    assert (b.means["request"].mean, b.means["request"].error, b.units) == (mean, error, units)
    by_user = own.group_by("user_id").agg(pl.sum("total"))["total"].to_numpy()
    np.testing.assert_allclose(b.means["unit"].mean, by_user.mean())
    np.testing.assert_allclose(b.means["unit"].error, by_user.std(ddof=1) / np.sqrt(len(by_user)))
    assert a.requests + b.requests == 600
    assert (a.share + b.share, a.expected_share) == (1.0, 0.5)


def test_order_of_rows_changes_nothing_but_time_does() -> None:
    frame = log()
    verdict = judge(read_experiment(frame, "click", "user_id"), config=Config(burn_in=10))
    mixed = judge(
        read_experiment(frame.sample(fraction=1, shuffle=True, seed=2), "click", "user_id"),
        config=Config(burn_in=10),
    )
    assert mixed.arms == verdict.arms
    assert mixed.sequential == verdict.sequential
    assert verdict.sequential[0].looks > 400


def test_three_arms_are_held_against_the_largest_and_holm_counts_them() -> None:
    frame = log(3000, ("a", "b", "c"), arm=["abcc"[at % 4] for at in range(3000)], user_id=np.arange(3000))
    verdict = judge(read_experiment(frame, "click", "user_id"), shares={"a": 0.25, "b": 0.25, "c": 0.5})
    assert verdict.control == "c"
    assert [(one.arm, one.measure) for one in verdict.differences] == [
        ("a", "request"),
        ("b", "request"),
        ("a", "unit"),
        ("b", "unit"),
    ]
    first, second = verdict.differences[:2]
    assert sorted([first.p_holm, second.p_holm]) == sorted(holm(np.array([first.p, second.p])))
    assert [one.arm for one in verdict.sequential] == ["a", "b"]
    assert verdict.ratio.p == 1.0


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []
    together = np.array([[0.01, 0.9], [0.04, 0.8], [0.03, 0.01]])
    np.testing.assert_allclose(holm(together).T, [holm(one) for one in together.T])


def test_told_apart_is_what_holm_says() -> None:
    """A/A with eight arms beside the control, some of which one test alone would call."""
    alone = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        arm, value, names = rng.integers(0, 9, 6000), rng.exponential(size=6000), tuple("abcdefghi")
        experiment = Experiment("value", "user_id", names, arm, np.arange(6000), value, {}, {})
        verdict = judge(experiment, config=Config(planned=800))
        for one in verdict.sequential:
            assert (one.crossed is not None) == (one.p_holm < 0.05)
            alone += one.p < 0.05 <= one.p_holm
        final = holm(np.array([one.p for one in verdict.sequential]))
        np.testing.assert_allclose([one.p_holm for one in verdict.sequential], final)
    assert alone > 0


def test_when_arms_are_told_apart_is_when_a_look_at_that_request_says_so() -> None:
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 4, 8000)
    click = (rng.random(8000) < np.array([0.3, 0.33, 0.36, 0.4])[arm]).astype(float)
    more = {
        "user_id": np.arange(8000),
        "timestamp": np.arange(8000),
        "feedback_click": [[one, 0.0, 0.0] for one in click],
        "arm": [f"a{one}" for one in arm],
    }
    frame = log(8000, **more)
    said = judge(read_experiment(frame, "click", "user_id"), control="a0").sequential
    assert sum(one.crossed is not None for one in said) >= 2
    for one in said:
        if one.crossed is None:
            continue
        pair = (frame["arm"].is_in(["a0", one.arm])).to_numpy()
        at = int(np.flatnonzero(pair)[one.crossed - 1])
        row = [later.arm for later in said].index(one.arm)
        looks = []
        for end in (
            at,
            np.flatnonzero(pair)[one.crossed] + 1,
        ):  # the requests before it; up to the pair's next
            part = read_experiment(frame.head(int(end)), "click", "user_id")
            looks.append(judge(part, control="a0").sequential[row].p_holm < 0.05)
        assert looks == [False, True]


def test_relative_by_hand() -> None:
    a, b = (Mean(mean=m, error=e, low=0, high=0, units=9) for m, e in ((3.0, 0.3), (2.0, 0.1)))
    ratio, low, high = relative_to(a, b)
    assert ratio == 0.5
    np.testing.assert_allclose(
        (high - 0.5, 0.5 - low), 1.959964 * np.hypot(0.3 / 2, 1.5 * 0.1 / 2), rtol=1e-6
    )
    assert relative_to(a, Mean(mean=0.0, error=1.0, low=0, high=0, units=9)) == (None, None, None)


def test_means_without_spread() -> None:
    ones, twos = (mean_of(np.full(5, value), np.arange(5)) for value in (1.0, 2.0))
    assert welch(ones, ones)[2] == 1.0
    assert welch(twos, ones) == (1.0, 1.0, 0.0)
    assert np.isnan(welch(mean_of(np.ones(5), np.zeros(5, int)), ones)[2])


def test_a_sample_ratio_that_cannot_be() -> None:
    assert not sample_ratio([500, 520], [0.5, 0.5]).mismatch
    assert sample_ratio([500, 640], [0.5, 0.5]).mismatch
    assert not sample_ratio([300, 700], [0.3, 0.7]).mismatch
    frame = log(3000, user_id=np.arange(3000), arm=["abb"[at % 3] for at in range(3000)])
    said = list(notes(judge(read_experiment(frame, "click", "user_id"))))
    assert said[0].startswith("Sample ratio mismatch")
    fine = judge(read_experiment(frame, "click", "user_id"), shares={"a": 1 / 3, "b": 2 / 3})
    assert next(iter(notes(fine))).startswith("Sample ratio: no mismatch")


def test_what_is_left_out_and_what_is_odd_is_said() -> None:
    frame = log(
        8,
        user_id=[1, 1, 2, 3, 4, 5, 6, 7],
        arm=["a", "b", "b", "a", None, "a", "b", "b"],
        model_version=["v1", "v1", "v2", "v1", "v9", "v1", "v1", "v1"],
        context_session=["s"] * 7 + [None],
        exposed=[[1]] * 3 + [None] + [[1]] * 4,
        feedback_click=[[1.0]] * 3 + [None] + [[0.0]] * 4,
        feedback_value=[[1.0]] * 3 + [None] + [[0.0]] * 4,
    )
    verdict = judge(read_experiment(frame, "click", "user_id"))
    assert verdict.experiment.left_out == {"without arm": 1, "without exposure": 1}
    assert verdict.shared_units == 1
    said = " ".join(notes(verdict))
    for words in (
        "1 units (user_id) stand in more than one arm",
        "b was served by 2 model versions: v1, v2",
        "Left out: 1 requests without arm.",
    ):
        assert words in said
    assert read_experiment(frame, "click", "context_session").left_out["without context_session"] == 1
    assert [one.looks for one in verdict.sequential] == [0]


def test_the_report_is_written(tmp_path: Path) -> None:
    frame = log(2000, user_id=np.arange(2000), arm=["ab"[at % 2] for at in range(2000)])
    page = write(tmp_path / "report", judge(read_experiment(frame, "click", "user_id")), Path("log.parquet"))
    text = page.read_text()
    for words in (
        "A/B test of click: a, b",
        "However often you look",
        "<svg",
        "click a request, minus a",
        "log.parquet",
    ):
        assert words in text
    assert sorted(path.suffix for path in page.parent.iterdir()) == [".html", ".json", ".md"]


MISTAKES = [
    ({"arm": ["a"] * 600}, {}, DataError, "two arms or more; the log has: a"),
    ({}, {"metric": "clik"}, ConfigError, "no metric 'clik'. Did you mean 'click'"),
    ({}, {"unit": "timestamp"}, ConfigError, "no unit 'timestamp'"),
]


@pytest.mark.parametrize(("columns", "how", "kind", "said"), MISTAKES)
def test_logs_and_names_that_do_not_fit(columns, how, kind, said: str) -> None:
    with pytest.raises(kind, match=said):
        read_experiment(log(**columns), **{"metric": "click", "unit": "user_id", **how})


def test_a_log_without_arms() -> None:
    with pytest.raises(DataError, match="no column 'arm'"):
        read_experiment(log().drop("arm"), "click", "user_id")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"control": "z"}, "no control 'z'"),
        ({"shares": {"a": 0.5}}, "name every arm: a, b"),
        ({"shares": {"a": 0.5, "b": 0.4}}, "add up to 1"),
        ({"shares": {"a": 0.0, "b": 1.0}}, "above 0"),
        ({"shares": {"z": 1.0}}, "no arm 'z'"),
        ({"config": Config(planned=0)}, "planned is 0"),
    ],
)
def test_settings_that_do_not_fit(how, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        judge(read_experiment(log(), "click", "user_id"), **how)
