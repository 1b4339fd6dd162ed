"""Export: the feedback log in the log schema, each event in its place, whatever the page size."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from served import START, click, exposure
from slatewise.data.check import check_requests
from slatewise.errors import ConfigError, DataError
from slatewise.serving.combine import read_rules
from slatewise.serving.log import FeedbackLog, open_log
from slatewise.serving.log import export as exporting
from slatewise.serving.log.export import Exported, export
from slatewise.serving.moments import moment, written
from slatewise.serving.records import Chosen

SECOND = 1_000_000


@pytest.fixture
def log(log_url: str):
    opened = open_log(log_url)
    yield opened
    opened.close()


def exported(
    log: FeedbackLog, folder: Path, chosen: Chosen | None = None, **how
) -> tuple[pl.DataFrame, Exported]:
    out = folder / "out.parquet"
    done = export(log, out, chosen or Chosen(), **how)
    frame = pl.read_parquet(out)
    assert check_requests(frame) == []
    assert sorted(path.name for path in folder.glob("*.p*")) == ["out.parquet"]
    return frame, done


def test_every_field_has_its_column(log: FeedbackLog, tmp_path: Path) -> None:
    log.write([exposure(), click(), click(item=None, position=2, kind="value", value=2.5)])
    frame, done = exported(log, tmp_path)
    assert frame.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert frame.with_columns(pl.col("timestamp").dt.epoch("us")).to_dicts() == [
        {
            "request_id": "r1",
            "user_id": "u7",
            "timestamp": START,
            "candidates": ["a", "b", "c", "d"],
            "candidate_scores": [0.4, 0.3, 0.2, 0.1],
            "exposed": ["c", "a"],
            "feedback_click": [1.0, 0.0],
            "feedback_value": [0.0, 2.5],
            "propensity": 0.25,
            "arm": "goalrank",
            "model_version": "v1",
            "context_device": "phone",
            "context_hour": 7,
            "context_load": 0.5,
            "context_member": True,
            "candidate_price": [1.0, None, 3.0, 4.0],
        }
    ]
    assert done == Exported(
        requests=1, arms={"goalrank": 1}, events={"click": 1, "value": 1}, without_scores=0
    )


def test_events_of_one_kind_become_one_number(log: FeedbackLog, tmp_path: Path) -> None:
    log.write([exposure()])
    for kind in ("click", "value", "rating", "mood"):
        values = (4.0, -7.0, 2.0)
        times = (START + 3, START + 1, START + 2)  # the first to come is the last in time
        log.write([click(kind=kind, value=v, timestamp=t) for v, t in zip(values, times, strict=True)])
    log.write([click(kind="mood", item="a", value=-3.0)])
    rules = read_rules(["rating=last", "mood=max"])
    row = exported(log, tmp_path, rules=rules)[0].row(0, named=True)
    assert row["feedback_click"] == [4.0, 0.0]
    assert row["feedback_value"] == [-1.0, 0.0]
    assert row["feedback_rating"] == [4.0, 0.0]
    assert row["feedback_mood"] == [4.0, -3.0]


def test_pages_change_nothing(log: FeedbackLog, tmp_path: Path, monkeypatch) -> None:
    """Many requests of one moment, written out of order, on pages of 3 and on one."""
    names = [f"r{at}" for at in range(20)]
    log.write(
        [exposure(name, timestamp=START + at // 7 * SECOND) for at, name in reversed(list(enumerate(names)))]
    )
    log.write(
        [click(name, item="ca"[at % 2], kind=("click", "like")[at % 3 > 0]) for at, name in enumerate(names)]
    )
    (tmp_path / "one").mkdir()
    whole, done = exported(log, tmp_path / "one")
    monkeypatch.setattr(exporting, "PAGE", 3)
    steps: list[tuple[int, int]] = []
    paged, _ = exported(log, tmp_path, progress=lambda at, total: steps.append((at, total)))
    assert paged.equals(whole)
    assert whole["timestamp"].is_sorted()
    assert sorted(whole["request_id"]) == sorted(names)
    assert (done.requests, done.events) == (20, {"click": 7, "like": 13})
    assert steps[0] == (3, 20)
    assert steps[-1] == (20, 20)


def test_choosing_by_time_arm_and_kind(log: FeedbackLog, tmp_path: Path) -> None:
    arms = ("x", "y", None)
    log.write([exposure(f"r{at}", timestamp=START + at * SECOND, arm=arms[at % 3]) for at in range(6)])
    log.write([click("r1"), click("r4", kind="like")])

    def names(**chosen) -> list[str]:
        return exported(log, tmp_path, Chosen(**chosen))[0]["request_id"].to_list()

    assert names(since=START + SECOND, until=START + 3 * SECOND) == ["r1", "r2"]
    assert names(arms=("y",)) == ["r1", "r4"]
    assert names(arms=("x", "y"), since=START + 4 * SECOND) == ["r4"]
    frame, done = exported(log, tmp_path, Chosen(arms=("x",)), kinds=["click", "share"])
    assert (
        frame.select("^feedback_.*$").to_dicts() == [{"feedback_click": [0, 0], "feedback_share": [0, 0]}] * 2
    )
    assert done.events == {"click": 0, "share": 0}


def test_columns_that_not_all_requests_fill(log: FeedbackLog, tmp_path: Path) -> None:
    bare = {"features": {}, "context": {"hour": "late", "device": None}, "propensity": None}
    log.write([exposure(), exposure("r2", **bare, arm=None, model_version=None), click()])
    first, second = exported(log, tmp_path)[0].to_dicts()
    assert (first["context_hour"], second["context_hour"]) == ("7", "late")
    assert (first["context_member"], second["context_member"]) == (True, None)
    assert (second["context_device"], second["propensity"], second["arm"], second["candidate_price"]) == (
        None,
        None,
        None,
        None,
    )


def test_ids_of_two_types_become_strings(log: FeedbackLog, tmp_path: Path) -> None:
    plain = {"scores": None, "features": {}}
    log.write([exposure(candidates=(1, 2), served=(2,), user_id=5, **plain), click(item=2)])
    frame, _ = exported(log, tmp_path)
    assert frame["exposed"].to_list() == [[2]]
    assert frame["user_id"].to_list() == [5]
    log.write([exposure("r2", candidates=("x", 3), served=("x",), **plain)])
    frame, _ = exported(log, tmp_path)
    assert frame["exposed"].to_list() == [["2"], ["x"]]
    assert frame["user_id"].to_list() == ["5", "u7"]


def test_requests_without_scores_are_left_out_where_others_have_them(
    log: FeedbackLog, tmp_path: Path
) -> None:
    log.write([exposure(), exposure("r2", scores=None), exposure("r3", scores=None, arm="z"), click()])
    frame, done = exported(log, tmp_path)
    assert frame["request_id"].to_list() == ["r1"]
    assert (done.requests, done.without_scores, done.arms) == (1, 2, {"goalrank": 1, "z": 0})
    frame, done = exported(log, tmp_path, Chosen(arms=("z",)), kinds=["click"])
    assert "candidate_scores" not in frame.columns
    assert (done.requests, done.without_scores, done.arms) == (1, 0, {"z": 1})


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    log, out = open_log(str(tmp_path / "log.db")), tmp_path / "out.parquet"
    log.write([exposure()])
    for chosen, path, said in (
        (Chosen(), out, "none of the 1 chosen exposures has feedback"),
        (Chosen(arms=("y",)), out, "none of the 1 exposures in the log is chosen; its arms: goalrank"),
        (Chosen(), tmp_path / "out.csv", "must end in .parquet"),
    ):
        with pytest.raises(DataError, match=said):
            export(log, path, chosen)
    with pytest.raises(DataError, match="is not a folder"):
        export(log, tmp_path / "no" / "out.parquet", Chosen(), kinds=["click"])
    assert not list(tmp_path.glob("*out*"))
    log.close()


@pytest.mark.parametrize("setting", ["click", "click=mean", "=max"])
def test_rules_that_are_none(setting: str) -> None:
    with pytest.raises(ConfigError, match="Write KIND=RULE; rules: max, sum, last"):
        read_rules([setting])


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("2023-11-14T22:13:20", START),
        ("2023-11-14T23:13:20+01:00", START),
        ("1700000000", START),
        ("1700000000000", START),
        (str(START), START),
        ("2023-11-14", 1_699_920_000_000_000),
        (None, None),
    ],
)
def test_moments(text: str | None, micro: int | None) -> None:
    assert moment(text, "--since") == micro


def test_moments_back_and_what_is_none() -> None:
    assert (written(START), written(None)) == ("2023-11-14T22:13:20Z", "–")
    with pytest.raises(ConfigError, match="--until is 'soon'"):
        moment("soon", "--until")
