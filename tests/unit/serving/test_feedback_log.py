"""The feedback log: each record once, every outcome defined, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import sys
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from served import START, click, exposure
from slatewise.errors import ConfigError, DataError, RequestError, UnavailableError
from slatewise.serving.log import FeedbackLog, LogConfig, open_log
from slatewise.serving.records import Feedback

HOUR = 3_600_000_000


@pytest.fixture
def log(log_url: str):
    opened = open_log(log_url)
    yield opened
    opened.close()


def outcomes(log: FeedbackLog, *records) -> list[str]:
    return [one.outcome for one in log.write(records)]


def test_the_same_question_gets_the_first_answer(log: FeedbackLog) -> None:
    (first,) = log.write([exposure()])
    assert (first.outcome, first.exposure) == ("new", exposure())
    again = exposure(served=("b", "d"), timestamp=START + 9, model_version="v2", arm="other")
    (second,) = log.write([again])
    assert (second.outcome, second.exposure) == ("same", exposure())
    assert log.find(["r1", "r2"]) == {"r1": exposure()}


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "u8"},
        {"candidates": ("a", "b", "c", "e"), "served": ("c", "a")},
        {"scores": None},
        {"features": {}},
        {"context": {"device": "desktop"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_question_under_the_same_id_is_a_conflict(log: FeedbackLog, change) -> None:
    log.write([exposure()])
    (outcome,) = log.write([exposure(**change)])
    assert (outcome.outcome, outcome.exposure) == ("conflict", exposure())
    assert log.find(["r1"])["r1"] == exposure()


def test_numbers_are_compared_as_numbers(log: FeedbackLog) -> None:
    log.write([exposure(scores=(4, 3, 2, 1))])
    assert outcomes(log, exposure(scores=(4.0, 3.0, 2.0, 1.0))) == ["same"]


def test_one_group_knows_its_own_records(log: FeedbackLog) -> None:
    said = outcomes(log, click(), exposure(), click(), exposure(), exposure(user_id="x"), click(value=2.0))
    assert said == ["accepted", "new", "duplicate", "same", "conflict", "conflict"]


def test_feedback_once_however_it_names_its_item(log: FeedbackLog) -> None:
    log.write([exposure()])
    assert outcomes(log, click()) == ["accepted"]
    assert outcomes(log, click(), click(item=None, position=1), click(position=1)) == ["duplicate"] * 3
    assert outcomes(log, click(value=3.0)) == ["conflict"]
    assert outcomes(log, click(kind="like"), click(timestamp=START + 2), click(item="a")) == ["accepted"] * 3
    named = click(event_id="e1")
    assert outcomes(log, named, Feedback(**{**vars_of(named), "timestamp": START})) == [
        "accepted",
        "duplicate",
    ]
    bare = click(kind="share", timestamp=None)
    assert outcomes(log, bare, bare) == ["accepted", "duplicate"]


def vars_of(feedback: Feedback) -> dict:
    return {name: getattr(feedback, name) for name in feedback.__struct_fields__}


def test_what_was_not_shown_is_refused(log: FeedbackLog) -> None:
    log.write([exposure()])
    assert (
        outcomes(log, click(item="b"), click(item=None, position=3), click(item="a", position=1))
        == ["not-shown"] * 3
    )


def test_integer_ids_meet_their_own_writing(log: FeedbackLog) -> None:
    log.write([exposure(candidates=(1, 2, 3), served=(3, 1), scores=None, features={})])
    (one,) = log.write([click(item="3")])
    assert (one.outcome, one.item_id, one.place, one.user_id) == ("accepted", 3, 0, "u7")


def test_late_feedback_is_accepted_and_said_to_be_late(log_url: str) -> None:
    log = open_log(log_url, LogConfig(late_hours=2))
    log.write([exposure()])
    assert outcomes(log, click(timestamp=START + HOUR), click(timestamp=START + 3 * HOUR)) == [
        "accepted",
        "late",
    ]
    assert outcomes(log, click(timestamp=START + 3 * HOUR)) == ["duplicate"]
    assert outcomes(log, click(kind="like", timestamp=None)) == ["accepted"]  # since it was logged, not shown
    log.close()


def test_feedback_on_an_unknown_request_waits_for_it(log: FeedbackLog) -> None:
    early = [click(), click(item=None, position=2), click(item="b")]
    assert outcomes(log, *early) == ["waiting"] * 3
    assert outcomes(log, click(), click(value=2.0)) == ["duplicate", "conflict"]
    (shown,) = log.write([exposure()])
    assert [(one.item_id, one.place, one.user_id) for one in shown.settled] == [
        ("c", 0, "u7"),
        ("a", 1, "u7"),
    ]
    assert outcomes(log, click()) == ["duplicate"]
    with log.database.read() as transaction:
        assert [row["count"] for row in transaction.counts("waiting")] == [1]  # "b" was not shown
        assert [row["count"] for row in transaction.counts("feedback")] == [2]


def test_what_waits_in_vain_expires_and_is_counted(log_url: str) -> None:
    log = open_log(log_url)
    log.write([click(), click(item="a")])
    log.close()
    log = open_log(log_url, LogConfig(waiting_days=0))
    log.write([exposure("r2")])
    with log.database.read() as transaction:
        assert transaction.value("expired") == 2
        assert [row["count"] for row in transaction.counts("waiting")] == [0]
    assert [one.settled for one in log.write([exposure()])] == [()]
    log.close()


def test_many_writers_of_the_same_requests_agree(log_url: str) -> None:
    """Four connections write the same 40 requests and clicks in different orders: each is new or accepted once."""
    said: list[tuple[str, str]] = []

    def work(seed: int) -> None:
        log = open_log(log_url)
        for step in range(40):
            name = f"r{(step * (2 * seed + 1)) % 40}"
            records = [click(name), exposure(name)] if seed % 2 else [exposure(name)]
            said.extend((name, one.outcome) for one in log.write(records))
            said.extend((name, one.outcome) for one in log.write([click(name)]))
        log.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for wanted in ("new", "accepted"):
        assert sorted(name for name, outcome in said if outcome == wanted) == sorted(
            f"r{i}" for i in range(40)
        )
    assert {outcome for _, outcome in said} == {"new", "same", "accepted", "duplicate"}


def test_feedback_and_its_exposure_from_two_writers_always_meet(log_url: str) -> None:
    """One sends exposures, one their feedback at the same time: none is left waiting."""
    ends = threading.Barrier(2)

    def work(make) -> None:
        log = open_log(log_url)
        for step in range(60):
            ends.wait()
            log.write([make(f"r{step}")])
        log.close()

    threads = [threading.Thread(target=work, args=(make,)) for make in (exposure, click)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = open_log(log_url)
    with log.database.read() as transaction:
        assert [row["count"] for row in transaction.counts("waiting")] == [0]
        assert [row["count"] for row in transaction.counts("feedback")] == [60]
    log.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.integers(1, 9))
def test_order_repetition_and_grouping_change_nothing(tmp_path: Path, random, size: int) -> None:
    """Whatever comes first, twice or together: each exposure and each event of its list is in the log once."""
    shown = [exposure(f"r{at}") for at in range(3)]
    clicked = [
        click(f"r{at}", item=item, kind=kind) for at in range(4) for item in "cab" for kind in ("x", "y")
    ]
    records = [*shown, *clicked, *random.choices(shown + clicked, k=10)]
    random.shuffle(records)
    log = open_log(str(tmp_path / f"{uuid.uuid4().hex}.db"))
    for start in range(0, len(records), size):
        log.write(records[start : start + size])
    with log.database.read() as transaction:
        found = transaction.counts("feedback", "request_id", "place", "kind")
        wanted = [(f"r{at}", place, kind, 1) for at in range(3) for place in (0, 1) for kind in "xy"]
        assert [tuple(row.values()) for row in found] == wanted
        assert [row["count"] for row in transaction.counts("exposures", "request_id")] == [1, 1, 1]
        unknown = [row for row in transaction.counts("waiting", "request_id") if row["request_id"] == "r3"]
        assert [row["count"] for row in unknown] == [6]
    log.close()


def test_without_its_drivers_the_log_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "slatewise.serving.log.sql", raising=False)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(
        ConfigError, match=r"needs sqlalchemy; install it with pip install 'slatewise\[serve\]'"
    ):
        open_log(str(tmp_path / "log.db"))


def test_tables_of_a_newer_version_are_left_alone(log: FeedbackLog, log_url: str) -> None:
    from slatewise.serving.log import sql

    with log.database.write([]) as transaction:
        transaction._run(sql.sa.update(sql.meta).where(sql.meta.c.name == "version").values(value=99))
    with pytest.raises(DataError, match="version 99; this Slatewise knows up to 1"):
        open_log(log_url)


BAD = [
    ({"request_id": "a\0"}, "request_id is 'a\\x00'"),
    ({"user_id": "\ud800"}, "user_id"),
    ({"user_id": 2**63}, "user_id is 9223372036854775808; allowed are integers of 64 bits"),
    ({"user_id": "x" * 513}, "513 characters"),
    ({"candidates": ()}, "candidates is empty"),
    ({"served": ()}, "served is empty"),
    ({"served": ("c", "z")}, "served[1] is 'z', which is no candidate"),
    ({"served": ("c", "c")}, "served[1] is 'c' once more"),
    ({"candidates": (1, "1"), "served": (1,)}, "candidates[1] is '1' once more"),
    ({"scores": (1.0,)}, "scores has 1 entries for 4 candidates"),
    ({"scores": (1.0, 2.0, float("nan"), 1.0)}, "scores[2] is nan"),
    ({"features": {"price": (1.0, None, float("inf"), 1.0)}}, "features.price[2] is inf"),
    ({"features": {"score": (1.0, 1.0, 1.0, 1.0)}}, "'score'"),
    ({"context": {"": 1}}, "context has the name ''"),
    ({"context": {"x": float("inf")}}, "context.x is inf"),
    ({"propensity": 0.0}, "propensity is 0.0"),
]


@pytest.mark.parametrize(("change", "said"), BAD, ids=[said for _, said in BAD])
def test_what_the_log_schema_forbids_is_refused_with_its_field(tmp_path: Path, change, said: str) -> None:
    log = open_log(str(tmp_path / "log.db"))
    with pytest.raises(RequestError) as refused:
        log.write([exposure("good"), exposure(**change)])
    assert said in str(refused.value)
    assert str(refused.value).startswith(refused.value.field)
    assert log.find(["good"]) == {}
    log.close()


BAD_FEEDBACK = [
    ({"item": None}, "item_id is missing"),
    ({"position": 0}, "position is 0"),
    ({"kind": "a b"}, "kind has the name 'a b'"),
    ({"value": float("nan")}, "value is nan"),
    ({"event_id": "\0"}, "event_id"),
]


@pytest.mark.parametrize(("change", "said"), BAD_FEEDBACK, ids=[said for _, said in BAD_FEEDBACK])
def test_feedback_that_cannot_be_logged_is_refused(tmp_path: Path, change, said: str) -> None:
    log = open_log(str(tmp_path / "log.db"))
    with pytest.raises(RequestError) as refused:
        log.write([click(**change)])
    assert said in str(refused.value)
    log.close()


PLACES = [
    ("mysql://x/y", ConfigError, "Allowed: a path, sqlite://…, postgresql://…"),
    ("sqlite://", ConfigError, "names no file"),
    ("postgresql://nobody@localhost:1/x", UnavailableError, "does not answer"),
]


@pytest.mark.parametrize(("url", "kind", "said"), PLACES)
def test_places_that_are_none(url: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        open_log(url)


def test_a_file_that_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no feedback log"):
        open_log(str(tmp_path / "none.db"), create=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(UnavailableError, match="file is not a database"):
        open_log(str(tmp_path / "text.db"))
    with pytest.raises(UnavailableError, match="unable to open"):
        open_log(str(tmp_path / "no" / "folder.db"))


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(UnavailableError) as refused:
        open_log("postgresql://me:secret@localhost:1/x")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("change", [{"late_hours": -1.0}, {"waiting_days": float("nan")}])
def test_settings_out_of_range(tmp_path: Path, change) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        open_log(str(tmp_path / "log.db"), LogConfig(**change))


def test_many_old_records_are_pruned_some_at_a_time(log_url: str) -> None:
    log = open_log(log_url)
    log.write([exposure(f"r{at}", timestamp=START + at) for at in range(1200)])
    log.write([click(f"r{at}") for at in range(0, 1200, 2)])
    told: list[int] = []
    assert log.prune(START + 1100, told.append) == 1100
    assert told == [500, 1000, 1100]
    status = log.status()
    assert sum(status.exposures.values()) == 100
    assert status.feedback == {"click": 50}
    log.close()
