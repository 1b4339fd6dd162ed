"""History never sees the future: equal to a naive loop over everything."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slatewise.data.history import (
    exposure_interactions,
    history_columns,
    history_lists,
    history_windows,
    no_history,
    request_history,
    with_feedback,
)
from slatewise.errors import DataError

EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), max_size=40)


def _plain(history, length):
    codes = np.arange(len(history.items), dtype=np.int32)
    columns = history.padded({"row": codes, "feedback": history.feedback}, length)
    count, index, feedback = columns["num_history"], columns["row"], columns["feedback"]
    rows = range(len(count))
    return [
        (history.items.gather(index[r, : count[r]]).to_list(), feedback[r, : count[r]].tolist()) for r in rows
    ]


def _naive(events, requests, length):
    answers = []
    for user, time in requests:
        before = [(t, row) for row, (u, t) in enumerate(events) if u == user and t < time]
        chosen = [row for _, row in sorted(before)][-length:] if length else []
        answers.append((chosen, [float(row % 3) for row in chosen]))
    return answers


@given(EVENTS, EVENTS, st.integers(0, 5))
def test_windows_equal_a_naive_loop(events, requests, length):
    interactions = pl.DataFrame(
        {
            "user_id": pl.Series([u for u, _ in events], dtype=pl.String),
            "timestamp": pl.Series([t for _, t in events], dtype=pl.Int64),
            "item_id": pl.Series(range(len(events)), dtype=pl.Int64),
            "feedback": pl.Series([row % 3 for row in range(len(events))], dtype=pl.Float64),
        }
    )
    asked = pl.DataFrame(
        {
            "user_id": pl.Series([u for u, _ in requests], dtype=pl.String),
            "timestamp": pl.Series([t for _, t in requests], dtype=pl.Int64),
        }
    )
    assert _plain(history_windows(interactions, asked, length), length) == _naive(events, requests, length)


def test_the_same_moment_is_not_before():
    interactions = pl.DataFrame({"user_id": [1, 1, 1], "item_id": [10, 11, 12], "timestamp": [5, 6, 7]})
    requests = pl.DataFrame({"user_id": [1, 1, 1, 2, None], "timestamp": [6, 7, 99, 99, 99]})
    items = [items for items, _ in _plain(history_windows(interactions, requests, 2), 2)]
    assert items == [[10], [10, 11], [11, 12], [], []]


def test_missing_times_have_no_history_and_are_none():
    interactions = pl.DataFrame({"user_id": [1, 2], "item_id": [10, 11], "timestamp": [None, 1.0]})
    requests = pl.DataFrame({"user_id": [1, 2, 2], "timestamp": [9.0, float("nan"), 9.0]})
    assert [items for items, _ in _plain(history_windows(interactions, requests, 3), 3)] == [[], [], [11]]


def test_dates_of_different_precision_compare():
    start = datetime(2024, 1, 1)
    interactions = pl.DataFrame(
        {"user_id": [1, 1], "item_id": [10, 11], "timestamp": [start, start + timedelta(days=1)]}
    )
    requests = pl.DataFrame(
        {"user_id": [1], "timestamp": pl.Series([start + timedelta(hours=1)]).cast(pl.Datetime("ms"))}
    )
    assert _plain(history_windows(interactions, requests, 3), 3)[0][0] == [10]
    with pytest.raises(DataError, match="must be numbers in both"):
        history_windows(interactions, pl.DataFrame({"user_id": [1], "timestamp": [1]}), 3)


def test_lists_are_cut_to_the_newest_and_default_to_feedback_one():
    requests = pl.DataFrame({"history": [[1, 2, 3], None, [], [4]]})
    assert _plain(history_lists(requests, 2), 2) == [([2, 3], [1, 1]), ([], []), ([], []), ([4], [1])]
    with_feedback = requests.with_columns(history_feedback=pl.Series([[0.5, None, 2.0], None, [], [3.0]]))
    assert _plain(history_lists(with_feedback, 2), 2) == [([2, 3], [0, 2]), ([], []), ([], []), ([4], [3])]
    with pytest.raises(DataError, match="'history_feedback' has 1 values for 3 entries"):
        history_lists(requests.with_columns(history_feedback=pl.Series([[1.0], None, [], [3.0]])), 2)


def test_earlier_exposures_become_history_with_weighted_feedback():
    requests = pl.DataFrame(
        {
            "user_id": [1, 1, 2],
            "timestamp": [3, 2, 9],
            "exposed": [[7], [8, 9], [5]],
            "feedback_click": [[1.0], [0.0, 1.0], [1.0]],
            "feedback_value": [[3.0], [None, 2.0], [1.0]],
        }
    )
    target = {"click": 1.0, "value": 0.5}
    assert _plain(request_history(requests, None, target, 5), 5) == [([8, 9], [0.0, 2.0]), ([], []), ([], [])]
    assert exposure_interactions(requests, target, positive=True)["item_id"].to_list() == [7, 9, 5]


def test_own_lists_come_before_interactions_and_without_time_there_is_none():
    interactions = pl.DataFrame({"user_id": [1], "item_id": [10], "timestamp": [0]})
    requests = pl.DataFrame({"user_id": [1], "timestamp": [5], "exposed": [[3]], "history": [[4]]})
    assert _plain(request_history(requests, interactions, {}, 3), 3)[0][0] == [4]
    assert _plain(request_history(requests.drop("history"), interactions, {}, 3), 3)[0][0] == [10]
    assert _plain(request_history(requests.drop("history", "timestamp"), interactions, {}, 3), 3)[0][0] == []


def test_used_items_are_exactly_those_in_a_window():
    interactions = pl.DataFrame({"user_id": [1] * 4, "item_id": [10, 11, 12, 13], "timestamp": [0, 1, 2, 3]})
    requests = pl.DataFrame({"user_id": [1, 1], "timestamp": [1, 3]})
    assert sorted(history_windows(interactions, requests, 1).used()) == [10, 12]
    assert len(no_history(3).used()) == 0


def test_times_and_contexts_stand_beside_the_items():
    interactions = pl.DataFrame(
        {
            "user_id": [1, 1, 1],
            "item_id": [10, 11, 12],
            "timestamp": [9_000, 7_000, 8_000],
            "context_device": ["tv", "phone", "desk"],
        }
    )
    requests = pl.DataFrame({"user_id": [1, 1, 2], "timestamp": [8_500, 9_500, 9_500]})
    history = history_windows(interactions, requests, 2)
    columns = {column.name: column.to_list() for column in history_columns(history)}
    assert columns == {
        "history": [[11, 12], [12, 10], []],
        "history_feedback": [[1.0, 1.0], [1.0, 1.0], []],
        "history_timestamp": [[7_000, 8_000], [8_000, 9_000], []],
        "history_context_device": [["phone", "desk"], ["desk", "tv"], []],
    }
    again = history_lists(pl.DataFrame(history_columns(history)), 2)
    places = again.places(2)[1]
    assert again.time[places].tolist() == [7_000, 8_000, 8_000, 9_000]
    assert again.context["context_device"].to_list() == ["phone", "desk", "desk", "tv"]


def test_feedback_of_several_kinds_is_weighed_where_no_number_is_given():
    kinds = pl.DataFrame({"item_id": [1, 2], "feedback_click": [1.0, 1.0], "feedback_value": [0.0, 3.0]})
    assert with_feedback(kinds, {"click": 1.0, "value": 0.5})["feedback"].to_list() == [1.0, 2.5]
    assert with_feedback(kinds.with_columns(feedback=pl.lit(7.0)), {})["feedback"].to_list() == [7.0, 7.0]
    assert with_feedback(kinds.select("item_id"), {"click": 1.0})["feedback"].to_list() == [1.0, 1.0]


def test_exposures_keep_their_kinds_and_context():
    requests = pl.DataFrame(
        {
            "user_id": [1],
            "timestamp": [3],
            "exposed": [[8, 9]],
            "feedback_click": [[0.0, 1.0]],
            "feedback_value": [[None, 2.0]],
            "context_page": ["shoes"],
        }
    )
    rows = exposure_interactions(requests, {"value": 1.0}).to_dicts()
    fixed = {"user_id": 1, "timestamp": 3, "context_page": "shoes"}
    assert rows == [
        {**fixed, "item_id": 8, "feedback_click": 0.0, "feedback_value": 0.0, "feedback": 0.0},
        {**fixed, "item_id": 9, "feedback_click": 1.0, "feedback_value": 2.0, "feedback": 2.0},
    ]
