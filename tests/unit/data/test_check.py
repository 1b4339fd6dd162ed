"""Every fault the log schema knows, on tables made by hand; laws of normalising; files of every kind."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slatewise.data.check import check_requests, normalise, read_requests
from slatewise.data.log_faults import errors, summary
from slatewise.data.log_rules import SLICE
from slatewise.data.log_tables import check_table, read_source
from slatewise.errors import DataError

GOOD: dict[str, list[Any]] = {
    "request_id": ["a", "b", "c"],
    "user_id": [1, 2, 1],
    "timestamp": [10, 20, 30],
    "candidates": [[1, 2, 3], [4, 5], [6]],
    "candidate_scores": [[0.5, 0.25, 0.0], [1.0, 2.0], [3.0]],
    "exposed": [[3, 1], [5], [6]],
    "feedback_click": [[1.0, 0.0], [0.0], [1.0]],
}


def table(**change: Any) -> pl.DataFrame:
    columns = {**GOOD, **change}
    return pl.DataFrame({k: v for k, v in columns.items() if v is not None}, strict=False)


def found(frame: pl.DataFrame, **options: Any) -> list[tuple[str, str, int | None]]:
    return [(f.kind, f.column, f.row) for f in check_requests(frame, **options)]


def test_a_good_table_has_no_fault() -> None:
    assert check_requests(table()) == []


NAN, INF = float("nan"), float("inf")

# One entry a fault: the columns changed, and the one (kind, column, row) that must come of it.
FAULTS: list[tuple[dict[str, Any], tuple[str, str, int | None]]] = [
    ({"user_id": None}, ("missing-column", "user_id", None)),
    ({"feedback_click": None}, ("missing-column", "feedback_<kind>", None)),
    ({"extra": [1, 2, 3]}, ("unknown-column", "extra", None)),
    ({"feedback_": [1, 2, 3]}, ("unknown-column", "feedback_", None)),
    ({"user_id": [1.0, 2.0, 3.0]}, ("wrong-type", "user_id", None)),
    ({"request_id": [True, False, True]}, ("wrong-type", "request_id", None)),
    ({"timestamp": ["2020-01-01", "yesterday", "2020-01-03"]}, ("wrong-type", "timestamp", 1)),
    ({"timestamp": [[1], [2], [3]]}, ("wrong-type", "timestamp", None)),
    ({"candidate_scores": [["x"] * 3, ["y"] * 2, ["z"]]}, ("wrong-type", "candidate_scores", None)),
    ({"feedback_click": [1.0, 0.0, 1.0]}, ("wrong-type", "feedback_click", None)),
    ({"propensity": ["a", "b", "c"]}, ("wrong-type", "propensity", None)),
    ({"context_day": [dt.date(2020, 1, 1)] * 3}, ("wrong-type", "context_day", None)),
    ({"exposed": [["3", "1"], ["5"], ["6"]]}, ("wrong-type", "exposed", None)),
    ({"history": [["x"], [], []]}, ("wrong-type", "history", None)),
    ({"request_id": ["a", None, "c"]}, ("null", "request_id", 1)),
    ({"user_id": [1, 2, None]}, ("null", "user_id", 2)),
    ({"timestamp": [1, 2, None]}, ("null", "timestamp", 2)),
    ({"timestamp": [1.0, NAN, 3.0]}, ("not-finite", "timestamp", 1)),
    ({"candidate_scores": [[1.0, 2.0, 3.0], None, [1.0]]}, ("null", "candidate_scores", 1)),
    ({"feedback_click": [[1.0, 0.0], None, [1.0]]}, ("null", "feedback_click", 1)),
    ({"history": [[1, None], [], []]}, ("null-id", "history", 0)),
    ({"request_id": ["a", "b", "a"]}, ("duplicate-request", "request_id", 2)),
    ({"exposed": [[3, 3], [5], [6]]}, ("duplicate-exposed", "exposed", 0)),
    ({"exposed": [[3, 1], [9], [6]]}, ("exposed-not-candidate", "exposed", 1)),
    ({"candidate_scores": [[0.5, 0.25], [1.0, 2.0], [3.0]]}, ("length", "candidate_scores", 0)),
    ({"candidate_price": [[1, 2, 3], [1, 2, 3], [1]]}, ("length", "candidate_price", 1)),
    ({"feedback_click": [[1.0, 0.0], [0.0], []]}, ("length", "feedback_click", 2)),
    ({"propensity": [[0.5, 0.5], [0.5, 0.5], [0.5]]}, ("length", "propensity", 1)),
    ({"history": [[1], [2], []], "history_feedback": [[1.0], [], []]}, ("length", "history_feedback", 1)),
    ({"history": [[1], [], []], "history_timestamp": [[1, 2], [], []]}, ("length", "history_timestamp", 0)),
    ({"history": [[], [1], []], "history_context_x": [[], [], []]}, ("length", "history_context_x", 1)),
    ({"history_timestamp": [["2020-01-01"], ["soon"], []]}, ("wrong-type", "history_timestamp", 1)),
    ({"history_timestamp": [1, 2, 3]}, ("wrong-type", "history_timestamp", None)),
    ({"history_context_x": [[[1]], [], []]}, ("wrong-type", "history_context_x", None)),
    ({"history_context_x": [[1.0], [INF], []]}, ("not-finite", "history_context_x", 1)),
    ({"candidate_scores": [[0.5, NAN, 0.0], [1.0, 2.0], [3.0]]}, ("not-finite", "candidate_scores", 0)),
    ({"candidate_scores": [[0.5, 1.0, 0.0], [1.0, None], [3.0]]}, ("not-finite", "candidate_scores", 1)),
    ({"feedback_click": [[1.0, 0.0], [-INF], [1.0]]}, ("not-finite", "feedback_click", 1)),
    ({"feedback_click": [[1.0, 0.0], [None], [1.0]]}, ("not-finite", "feedback_click", 1)),
    ({"candidate_price": [[1, 2, 3], [1, INF], [1]]}, ("not-finite", "candidate_price", 1)),
    ({"context_age": [1.0, 2.0, INF]}, ("not-finite", "context_age", 2)),
    ({"propensity": [0.5, 0.0, 1.0]}, ("propensity", "propensity", 1)),
    ({"propensity": [-0.1, 0.5, 1.0]}, ("propensity", "propensity", 0)),
    ({"propensity": [0.1, 0.5, 1.1]}, ("propensity", "propensity", 2)),
    ({"propensity": [0.1, NAN, 1.0]}, ("not-finite", "propensity", 1)),
    ({"propensity": [[0.5, 1.5], [1.0], [1.0]]}, ("propensity", "propensity", 0)),
    ({"propensity": [[0.5, None], [1.0], [1.0]]}, ("not-finite", "propensity", 0)),
]


@pytest.mark.parametrize(("change", "expected"), FAULTS, ids=lambda value: str(value)[:60])
def test_each_fault_is_found_and_no_other(
    change: dict[str, Any], expected: tuple[str, str, int | None]
) -> None:
    frame = table(**change)
    assert found(frame) == [expected]
    fault = check_requests(frame)[0]
    assert fault.column in fault.message
    assert fault.sentence.endswith((".", "?"))


def test_faults_of_candidates_that_bring_others_with_them() -> None:
    assert ("empty-candidates", "candidates", 2) in found(table(candidates=[[1, 2, 3], [4, 5], []]))
    assert ("null", "candidates", 2) in found(table(candidates=[[1, 2, 3], [4, 5], None]))
    assert ("null-id", "candidates", 1) in found(table(candidates=[[1, 2, 3], [5, None], [6]]))
    assert ("duplicate-candidate", "candidates", 0) in found(table(candidates=[[1, 3, 1], [4, 5], [6]]))
    longer = table(exposed=[[1, 2, 3, 9], [5], [6]], feedback_click=[[0, 0, 0, 1], [0], [1]])
    assert {k for k, _, _ in found(longer)} == {"too-long", "exposed-not-candidate"}


def test_the_sentence_says_row_id_value_and_what_is_allowed() -> None:
    (fault,) = check_requests(table(exposed=[[3, 1], [9], [6]]))
    assert fault.sentence == (
        "requests, row 1 (request_id 'b'): exposed holds 9, which is not among the candidates; "
        "add it there, with its score."
    )
    (fault,) = check_requests(table(propensity=[0.5, 2.0, 1.0]))
    assert "is 2.0; allowed is above 0 and at most 1" in fault.message


def test_a_misspelt_column_is_pointed_at() -> None:
    missing, unknown = check_requests(table().rename({"candidates": "candidats"}).drop("candidate_scores"))
    assert (missing.kind, unknown.kind, unknown.level) == ("missing-column", "unknown-column", "warning")
    assert "Rename 'candidats' to 'candidates'?" in missing.message
    assert "Did you mean 'candidates'?" in unknown.message


def test_examples_are_limited_but_all_rows_counted() -> None:
    rows = 50
    frame = pl.DataFrame(
        {
            "request_id": range(rows),
            "user_id": [1] * rows,
            "timestamp": [1] * rows,
            "candidates": [[1, 2]] * rows,
            "exposed": [[1, 9]] * rows,
            "feedback_click": [[0, 1]] * rows,
        }
    )
    faults = check_requests(frame, examples=4)
    assert [(f.kind, f.row, f.count) for f in faults] == [
        ("exposed-not-candidate", r, rows) for r in range(4)
    ]
    assert "The same in 49 more rows." in summary(faults, "x.parquet")


def test_rows_keep_their_number_and_duplicates_are_seen_across_slices() -> None:
    rows = SLICE + 10
    frame = pl.DataFrame(
        {
            "request_id": pl.int_range(rows, eager=True),
            "user_id": pl.repeat(1, rows, eager=True),
            "timestamp": pl.int_range(rows, eager=True),
        }
    ).with_columns(
        request_id=pl.when(pl.int_range(pl.len()) == rows - 1).then(3).otherwise("request_id"),
        candidates=pl.concat_list(pl.lit(1), pl.lit(2)),
        exposed=pl.concat_list(pl.when(pl.int_range(pl.len()) == SLICE + 5).then(7).otherwise(2)),
        feedback_click=pl.concat_list(pl.lit(1.0)),
    )
    assert set(found(frame)) == {
        ("duplicate-request", "request_id", rows - 1),
        ("exposed-not-candidate", "exposed", SLICE + 5),
    }


def test_ranking_requests_need_no_outcome_and_have_it_not_looked_at() -> None:
    bare = table(timestamp=None, exposed=None, feedback_click=None)
    assert check_requests(bare, ranking=True) == []
    assert check_requests(table(exposed=[[99], [5], [6]], propensity=[5, 5, 5]), ranking=True) == []
    assert normalise(table(), ranking=True).columns == [
        "request_id",
        "user_id",
        "timestamp",
        "candidates",
        "candidate_scores",
    ]
    assert found(bare) == [(("missing-column"), c, None) for c in ("timestamp", "exposed", "feedback_<kind>")]


def test_requests_without_exposure_and_missing_features_are_no_faults() -> None:
    frame = table(
        exposed=[[3, 1], None, []],
        feedback_click=[[1, 0], None, []],
        propensity=[0.5, None, None],
        candidate_price=[[1.0, None, NAN], None, [2.0]],
        context_device=["phone", None, "desk"],
        history=[[9, 9], None, []],
        history_timestamp=[["2020-01-01", None], None, []],
        history_context_device=[["phone", None], None, []],
    )
    assert check_requests(frame) == []
    assert normalise(frame)["history_timestamp"].to_list() == [[1577836800 * 10**6, None], None, []]
    assert normalise(frame)["candidate_price"].to_list()[1:] == [[None, None], [2.0]]


def test_empty_tables() -> None:
    assert found(pl.DataFrame()) == [("empty-table", "", None)]
    assert found(table().clear()) == [("empty-table", "", None)]


ODD = ["käse", "", " a b ", "日本", "💡", "-5", "007", "a|b", "[1]", 'quo"te', "x" * 300]


def test_odd_string_ids_stay_as_they_are() -> None:
    frame = table(
        candidates=[ODD, ["a"], ["b"]],
        exposed=[ODD[::-1], ["a"], ["b"]],
        candidate_scores=[[1.0] * len(ODD), [1], [1]],
        feedback_click=[[0.0] * len(ODD), [1], [1]],
        user_id=["ü", " ", ""],
    )
    assert check_requests(frame) == []
    assert normalise(frame)["candidates"][0].to_list() == ODD


def test_negative_and_huge_integer_ids() -> None:
    edge = [-(2**63), -1, 2**63 - 1]
    frame = table(candidates=[edge, [4, 5], [6]], exposed=[edge[:2], [5], [6]])
    assert check_requests(frame) == []
    assert normalise(frame)["candidates"][0].to_list() == edge
    big = table(user_id=pl.Series([1, 2, 2**64 - 1], dtype=pl.UInt64))
    assert found(big) == [("id-too-large", "user_id", 2)]
    big = table().with_columns(candidates=pl.Series([[1, 2, 3], [4, 2**63], [6]], dtype=pl.List(pl.UInt64)))
    assert ("id-too-large", "candidates", 1) in found(big)
    assert normalise(table().with_columns(pl.col("candidates", "exposed").cast(pl.List(pl.UInt64))))[
        "candidates"
    ].dtype == pl.List(pl.Int64)


def test_types_are_brought_to_the_canonical_ones() -> None:
    frame = table(propensity=[1, 1, 1]).with_columns(
        pl.col("candidate_scores", "feedback_click").cast(pl.List(pl.Float32)),
        request_id=pl.col("request_id").cast(pl.Categorical),
        user_id=pl.col("user_id").cast(pl.UInt8),
        context_hour=pl.Series([1, 2, 3], dtype=pl.Int16),
    )
    schema = normalise(frame).schema
    assert schema["request_id"] == pl.String
    assert schema["user_id"] == schema["context_hour"] == pl.Int64
    assert schema["candidate_scores"] == schema["feedback_click"] == pl.List(pl.Float64)
    assert schema["propensity"] == pl.Float64
    fixed = table(
        candidates=pl.Series([[1, 2], [4, 5], [6, 7]], dtype=pl.Array(pl.Int32, 2)),
        exposed=[[1], [4], [6]],
        feedback_click=[[True], [False], [True]],
        candidate_scores=None,
    )
    assert normalise(fixed)["candidates"].to_list() == [[1, 2], [4, 5], [6, 7]]
    assert normalise(fixed)["feedback_click"].to_list() == [[1.0], [0.0], [1.0]]


def test_times() -> None:
    moment = dt.datetime(2022, 6, 22, 11, 21, 39, tzinfo=dt.UTC)
    micro = int(moment.timestamp()) * 1_000_000
    east = dt.timezone(dt.timedelta(hours=2))
    for value in (
        [moment.replace(tzinfo=None)] * 3,
        [moment, moment, moment.astimezone(east)],
        ["2022-06-22T11:21:39Z", "2022-06-22 11:21:39", "2022-06-22T13:21:39.000+02:00"],
    ):
        assert normalise(table(timestamp=value))["timestamp"].to_list() == [micro] * 3
    days = normalise(table(timestamp=[dt.date(1970, 1, 2)] * 3))["timestamp"]
    assert days.to_list() == [86_400_000_000] * 3
    assert normalise(table(timestamp=[1.5, 2.5, 3.5]))["timestamp"].to_list() == [1.5, 2.5, 3.5]


ids = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8, unique=True),
    st.lists(st.text(max_size=5), min_size=1, max_size=8, unique=True),
)


@settings(max_examples=40, deadline=None)
@given(ids, st.data())
def test_any_ids_pass_and_normalising_twice_changes_nothing(items: list[Any], data: st.DataObject) -> None:
    exposed = data.draw(st.permutations(items))[: data.draw(st.integers(1, len(items)))]
    frame = pl.DataFrame(
        {
            "request_id": [items[0]],
            "user_id": [items[-1]],
            "timestamp": [1],
            "candidates": [items],
            "exposed": [exposed],
            "feedback_x": [[0.0] * len(exposed)],
        }
    )
    assert check_requests(frame) == []
    once = normalise(frame)
    assert once["candidates"][0].to_list() == items
    assert normalise(once).equals(once)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=7), st.lists(st.integers(0, 5), max_size=7))
def test_list_rules_agree_with_plain_python(candidates: list[int], exposed: list[int]) -> None:
    frame = pl.DataFrame(
        {
            "request_id": [1],
            "user_id": [1],
            "timestamp": [1],
            "candidates": [candidates],
            "exposed": [exposed],
            "feedback_x": [[1.0] * len(exposed)],
        },
        schema_overrides={"candidates": pl.List(pl.Int64), "exposed": pl.List(pl.Int64)},
    )
    expected = {
        "empty-candidates": not candidates,
        "duplicate-candidate": len(set(candidates)) < len(candidates),
        "duplicate-exposed": len(set(exposed)) < len(exposed),
        "exposed-not-candidate": not set(exposed) <= set(candidates),
        "too-long": len(exposed) > len(candidates),
    }
    assert {kind for kind, _, _ in found(frame)} == {kind for kind, is_so in expected.items() if is_so}


def test_normalise_raises_the_first_fault_and_counts_the_others() -> None:
    with pytest.raises(DataError, match=r"^log: requests, row 1 .*holds 9.* Other faults: 1\. See"):
        normalise(table(exposed=[[3, 1], [9], [6]], propensity=[3, 3, 3]), source="log")


# Files


def test_the_same_table_comes_out_of_every_kind_of_file(tmp_path: Path) -> None:
    frame = table(context_device=["phone", None, "desk"], propensity=[0.5, 1.0, 0.25])
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ndjson(tmp_path / "a.jsonl")
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]
    for stem, write in (
        ("json", json.dumps),
        ("bar", lambda v: "|".join(map(str, v))),
        ("comma", lambda v: ", ".join(map(str, v))),
    ):
        cells = {name: [write(v) for v in frame[name].to_list()] for name in lists}
        frame.with_columns(**{k: pl.Series(v) for k, v in cells.items()}).write_csv(tmp_path / f"{stem}.csv")
    expected = normalise(frame)
    for path in sorted(tmp_path.iterdir()):
        assert read_requests(path).equals(expected), path.name


def test_csv_ids_are_integers_only_if_all_are_written_so(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("request_id,user_id,candidates\n1,007,1|02\n2,8,3\n")
    frame = read_requests(path, ranking=True)
    assert frame.to_dict(as_series=False) == {
        "request_id": [1, 2],
        "user_id": ["007", "8"],
        "candidates": [["1", "02"], ["3"]],
    }
    path.write_text('request_id,user_id,candidates\n1,a,"[""x, y"", ""z|""]"\n')
    assert read_requests(path, ranking=True)["candidates"][0].to_list() == ["x, y", "z|"]


def test_json_ids_of_mixed_types_become_strings(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"request_id": 1, "user_id": 1, "candidates": [1, "a"]}\n')
    assert read_requests(path, ranking=True)["candidates"][0].to_list() == ["1", "a"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.parquet", b"", "not a whole Parquet file"),
        ("a.parquet", b"PAR1 no table PAR1", "not a whole Parquet file"),
        ("a.txt", b"hello", r"allowed are \.parquet, \.csv"),
        ("a.jsonl", b"", "has no rows"),
        ("a.csv", b" \n", "has no rows"),
        ("a.jsonl", b'{"request_id": 1}\n{"request_id": NaN}\n', "line 2.*no NaN"),
        ("a.jsonl", b'{"request_id": 1}\n[1]\n', "line 2"),
        ("a.csv", b"request_id,user_id\n1,2\n1,2,3\n", "row 1: 3 cells where the header has 2"),
        ("a.csv", b"\xff\xfe\x00\n\x81\x00", "is not a CSV file"),
        ("a.csv", b'request_id,user_id,candidates\n1,1,[1]\n2,2,"[1"\n', "row 1, column 'candidates'"),
        (
            "a.csv",
            b"request_id,user_id,candidates,candidate_scores\n1,1,1,x\n",
            "row 0, column 'candidate_scores'",
        ),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_requests(tmp_path / name)


def test_no_cut_or_change_of_a_parquet_file_ends_in_another_error(tmp_path: Path) -> None:
    table().write_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    path = tmp_path / "cut.parquet"
    for size in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="not a whole Parquet file"):
            read_requests(path)
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            read_requests(path)
        except DataError:
            continue


def test_a_folder_needs_exactly_one_table_of_requests(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no requests\.parquet"):
        read_requests(tmp_path)
    with pytest.raises(DataError, match="there is no file"):
        read_requests(tmp_path / "nothing.parquet")
    table().write_parquet(tmp_path / "requests.parquet")
    assert read_requests(tmp_path).height == 3
    table().write_ndjson(tmp_path / "requests.jsonl")
    with pytest.raises(DataError, match="keep one"):
        read_requests(tmp_path)


# The tables beside the requests


@pytest.mark.parametrize(
    ("name", "columns", "expected"),
    [
        ("items", {"id": [1]}, ("missing-column", "item_id", None)),
        ("items", {"item_id": [1, 2, 1]}, ("duplicate-item", "item_id", 0)),
        ("users", {"user_id": [1, None]}, ("null", "user_id", 1)),
        ("users", {"user_id": [1, 2], "tags": [["a"], ["b"]]}, ("wrong-type", "tags", None)),
        ("users", {"user_id": [1, 2], "age": [1.0, INF]}, ("not-finite", "age", 1)),
        ("users", {"user_id": ["1", "x"]}, ("wrong-type", "user_id", 1)),
        ("interactions", {"user_id": [1], "item_id": [1]}, ("missing-column", "timestamp", None)),
        (
            "interactions",
            {"user_id": [1], "item_id": [1], "timestamp": [1], "feedback": [NAN]},
            ("not-finite", "feedback", 0),
        ),
        (
            "interactions",
            {"user_id": [1], "item_id": [1], "timestamp": [1], "feedback": ["x"]},
            ("wrong-type", "feedback", None),
        ),
        (
            "interactions",
            {"user_id": [1], "item_id": [1], "timestamp": [1], "more": [1]},
            ("unknown-column", "more", None),
        ),
    ],
)
def test_faults_of_the_other_tables(name: str, columns: dict[str, Any], expected: tuple[Any, ...]) -> None:
    _, faults = check_table(
        pl.DataFrame(columns), name, {"user_id": pl.Int64(), "item_id": pl.Int64()}, examples=1
    )
    assert [(f.kind, f.column, f.row) for f in faults] == [expected]
    assert faults[0].table == name


def test_ids_of_the_other_tables_take_the_type_of_the_requests(tmp_path: Path) -> None:
    table(user_id=["1", "2", "x"]).write_parquet(tmp_path / "requests.parquet")
    pl.DataFrame({"user_id": [1, 2], "age": [3, 4]}).write_parquet(tmp_path / "users.parquet")
    (tmp_path / "items.csv").write_text("item_id,color,price\n1,red,1.5\n2,,2\n")
    source = read_source(tmp_path)
    assert errors(source.faults) == []
    assert source.others["users"]["user_id"].to_list() == ["1", "2"]
    assert source.others["items"].schema == {"item_id": pl.Int64, "color": pl.String, "price": pl.Float64}
