"""`log-v1`: what is kept of a log, what is left out, and that both are counted."""

import numpy as np
import polars as pl
import pytest

from sample_logs import random_requests
from slatewise.data.log import Log
from slatewise.errors import ConfigError, DataError
from slatewise.protocols import log_v1

LIST_COLUMNS = ("candidates", "candidate_scores", "exposed", "feedback_click", "propensity")


def _build(requests, **options):
    return log_v1.build(log_v1.Config(**options), Log(requests=requests, counts={"rows read": 3}), 0)


def _log(**columns):
    rows = len(columns["candidates"])
    return pl.DataFrame({"user_id": [1] * rows, "timestamp": list(range(rows)), **columns})


def _one_split(requests, **options):
    return _build(requests, validation_share=0.0, test_share=0.0, **options)


def test_a_sound_log_is_passed_on():
    requests = random_requests()
    lists = _build(requests)
    assert lists.requests.drop("split").equals(requests)
    assert lists.requests["split"].value_counts().sort("split")["count"].to_list() == [40, 140, 20]
    assert (lists.length, lists.target, lists.unexposed_is_negative) == (4, {"click": 1.0}, False)
    assert lists.counts == {"rows read": 3, "requests": 200}


def test_training_is_before_validation_is_before_test():
    lists = _build(random_requests())
    times = [lists.requests.filter(split=name)["timestamp"] for name in ("train", "validation", "test")]
    assert times[0].max() <= times[1].min()
    assert times[1].max() <= times[2].min()


def test_each_user_is_split_on_its_own():
    requests = _build(random_requests(400), split="user").requests
    for user in requests["user_id"].unique():
        mine = requests.filter(user_id=user).sort("timestamp", maintain_order=True)["split"].to_list()
        assert mine == sorted(mine, key=["train", "validation", "test"].index)
        assert mine.count("test") == int(len(mine) * 0.2 + 1e-9)


def test_what_cannot_be_used_is_left_out_and_counted():
    requests = _log(
        candidates=[[1, 2], [], None, [1, 2], [1, 2], [3, 4]],
        exposed=[[1], [1], [1], [], [9], [4, 3]],
        feedback_click=[[1.0], [1.0], [1.0], [], [0.0], [0.0, 1.0]],
    )
    lists = _one_split(requests)
    assert lists.requests["exposed"].to_list() == [[1], [4, 3]]
    assert lists.counts == {
        "rows read": 3,
        "requests": 6,
        "requests without candidates": 2,
        "requests without exposure": 1,
        "requests with an exposed item that is no candidate": 1,
    }
    with pytest.raises(DataError, match="no request is left"):
        _one_split(requests[1:3])


def test_what_comes_twice_counts_once_with_everything_beside_it():
    requests = _log(
        candidates=[[1, 2, 1, 3], [1]],
        candidate_scores=[[0.1, 0.2, 0.3, 0.4], None],
        exposed=[[3, 3, 2], [1]],
        feedback_click=[[1.0, 0.0, 0.5], [1.0]],
        propensity=[[0.9, 0.8, 0.7], [1.0]],
    )
    lists = _one_split(requests)
    first = lists.requests.row(0, named=True)
    assert [first[name] for name in LIST_COLUMNS] == [
        [1, 2, 3],
        [0.1, 0.2, 0.4],
        [3, 2],
        [1.0, 0.5],
        [0.9, 0.7],
    ]
    assert lists.requests["candidate_scores"][1].to_list() == [None]
    assert lists.counts["candidates entries that came twice"] == 1
    assert lists.counts["exposed entries that came twice"] == 1


def test_wide_requests_keep_what_was_shown_then_the_best_scores_in_their_order():
    requests = _log(
        candidates=[[1, 2, 3, 4, 5], [6, 7]],
        candidate_scores=[[0.5, 0.9, None, 0.7, 0.1], [0.0, 0.0]],
        exposed=[[5, 3, 1], [7]],
        feedback_click=[[1.0, 0.0, 1.0], [1.0]],
    )
    lists = _one_split(requests, max_candidates=3, max_exposed=2)
    first = lists.requests.row(0, named=True)
    assert first["exposed"] == [5, 3]
    assert first["candidates"] == [2, 3, 5]
    assert first["candidate_scores"] == [0.9, None, 0.1]
    assert lists.requests["candidates"][1].to_list() == [6, 7]
    assert lists.counts["candidates cut"] == 2
    assert lists.counts["exposed entries cut"] == 1
    unscored = _one_split(requests.drop("candidate_scores"), max_candidates=3, max_exposed=2)
    assert unscored.requests["candidates"][0].to_list() == [1, 3, 5]


def test_history_comes_from_every_exposure_or_from_the_positive_ones():
    requests = _log(
        candidates=[[1, 2], [], [3]], exposed=[[1, 2], [5], [3]], feedback_click=[[0.0, 1.0], [1.0], [0.0]]
    )
    assert _one_split(requests).interactions["item_id"].to_list() == [1, 2, 5, 3]
    assert _one_split(requests, history_from="positive").interactions["item_id"].to_list() == [2, 5]
    own = pl.DataFrame({"user_id": [1], "item_id": [8], "timestamp": [0]})
    lists = log_v1.build(log_v1.Config(), Log(requests=random_requests(), interactions=own), 0)
    assert lists.interactions is own


def test_target_defaults_to_clicks_else_the_first_kind():
    requests = random_requests()
    assert _build(requests.drop("feedback_click")).target == {"watch": 1.0}
    assert _build(requests, target={"watch": 0.1}).target == {"watch": 0.1}
    with pytest.raises(ConfigError, match=r"'clik'. Did you mean 'click'\? The log has: click, watch"):
        _build(requests, target={"clik": 1.0})
    with pytest.raises(DataError, match="nothing to learn from"):
        _build(requests.drop("feedback_click", "feedback_watch"))


def test_without_timestamps_rows_are_in_time():
    split = _build(random_requests().drop("timestamp")).requests["split"]
    assert split.to_list() == ["train"] * 140 + ["validation"] * 20 + ["test"] * 40


def test_permuting_the_rows_of_distinct_times_changes_nothing():
    requests = random_requests().with_columns(timestamp=pl.int_range(200))
    order = np.random.default_rng(0).permutation(200)
    shuffled = _build(requests[order]).requests.sort("timestamp")
    assert shuffled.equals(_build(requests).requests)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length = 0 must be 1 or more"),
        ({"history": -1}, "history = -1 must be 0 or more"),
        ({"max_exposed": 300}, "must not be above max_candidates = 200"),
        ({"test_share": 1.0}, "leave a share to train on"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        _build(random_requests(), **options)


def test_a_log_too_small_to_split_or_without_lists():
    with pytest.raises(DataError, match="the test split has none of the 4 requests"):
        _build(random_requests(4))
    with pytest.raises(DataError, match="only interactions"):
        log_v1.build(log_v1.Config(), Log(), 0)
