"""R-AUC against all pairs, calibration by hand, and the fit of a reward to logged lists as long as they were."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import make_data
from slatewise.evaluation.plots import calibration_curves
from slatewise.evaluation.regression import calibration, pcoc, r_auc, rmse
from slatewise.evaluation.reward_quality import reward_quality

FEW = st.integers(-3, 3).map(float)


def all_pairs(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Eq. 15 as it stands."""
    above = observed[:, None] > observed[None]
    right = above & (predicted[:, None] > predicted[None])
    return right.sum() / above.sum() if above.any() else math.nan


@given(st.lists(st.tuples(FEW, FEW), max_size=40))
def test_r_auc_is_the_share_of_all_pairs_ties_included(pairs) -> None:
    predicted, observed = np.array(pairs, dtype=float).reshape(-1, 2).T
    assert r_auc(predicted, observed) == pytest.approx(all_pairs(predicted, observed), nan_ok=True)


def test_r_auc_by_hand() -> None:
    observed = np.array([0.0, 1.0, 1.0, 2.0])
    # pairs that differ: 1>0 twice, 2>0, 2>1 twice; the prediction ties 2 with the first 1
    assert r_auc(np.array([0.1, 0.5, 0.3, 0.5]), observed) == pytest.approx(4 / 5)
    assert math.isnan(r_auc(np.array([1.0, 2.0]), np.array([3.0, 3.0])))


def test_r_auc_of_many_lists_needs_no_table_of_pairs() -> None:
    rng = np.random.default_rng(0)
    observed = rng.poisson(2.0, 200_000).astype(float)
    predicted = observed + rng.normal(size=len(observed))
    found = r_auc(predicted, observed)
    part = slice(0, 3000)  # all pairs of 200,000 would be 40 GB
    assert found == pytest.approx(all_pairs(predicted[part], observed[part]), abs=0.02)


def test_rmse_and_pcoc() -> None:
    predicted, observed = np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 3.0])
    assert rmse(predicted, observed) == pytest.approx(math.sqrt(4 / 3))
    assert pcoc(predicted, observed) == pytest.approx(6 / 8)


def test_calibration_groups_lists_by_their_prediction() -> None:
    predicted = np.array([0.4, 0.1, 0.3, 0.2, 0.5])
    observed = np.array([3.0, 0.0, 1.0, 2.0, 5.0])
    low, high = calibration(predicted, observed, bins=2)
    assert (low.lists, high.lists) == (3, 2)
    assert (low.predicted, low.observed) == (pytest.approx(0.2), 1.0)
    assert (high.predicted, high.observed) == (pytest.approx(0.45), 4.0)
    assert high.error == pytest.approx(1.0)  # two values, 3 and 5
    assert len(calibration(predicted, observed, bins=10)) == 5
    svg = calibration_curves({"a reward": [low, high]})
    assert svg.startswith("<svg")
    assert "a reward" in svg
    assert calibration_curves({}) == ""


def test_a_logged_list_is_valued_as_long_as_it_was(tmp_path) -> None:
    data = make_data(tmp_path, fewest=2)
    lengths: list[int] = []

    def label_sum(batch, lists_BGL):
        lengths.append(lists_BGL.shape[2])
        label_BGN = batch.label_BN([1.0])[:, None].expand(-1, lists_BGL.shape[1], -1)
        return label_BGN.gather(2, lists_BGL).sum(2)

    found = reward_quality(label_sum, data, requests=40)
    assert sorted(set(lengths)) == [2, 3, 4]
    assert (found.rmse, found.pcoc, found.r_auc) == (0.0, 1.0, 1.0)
    assert (found.label_rmse, found.label_pcoc, found.label_r_auc) == (0.0, 1.0, 1.0)
    assert sum(part.lists for part in found.calibration) == 40
    assert all(part.predicted == part.observed for part in found.calibration)
    doubled = reward_quality(lambda batch, lists: 2 * label_sum(batch, lists), data, requests=40)
    assert doubled.pcoc == pytest.approx(2.0)
    assert doubled.label_pcoc == pytest.approx(2.0)


def test_random_lists_have_labels_only_where_those_of_all_candidates_are_known(tmp_path) -> None:
    data = make_data(tmp_path, unexposed_is_negative=False)
    found = reward_quality(lambda batch, lists: lists.sum(2).float(), data, requests=40)
    assert found.label_pcoc is None
    assert found.label_r_auc is None
