"""The feature stores: what goes in comes out, of every backend alike, and an outage is cold, counted and no error."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path

import fakeredis
import msgspec
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import servers
from sample_logs import item_table, random_requests, user_table
from served import START, click, exposure, rows_of
from slatewise.data.direct import Past as RequestPast
from slatewise.data.direct import Row
from slatewise.data.features import FeatureTransform
from slatewise.errors import ConfigError, UnavailableError
from slatewise.serving.features import Kept, Store, StoreError, open_store
from slatewise.serving.features.encoded import Encoder
from slatewise.serving.features.events import Done, Past, Shown, encode, history_of
from slatewise.serving.features.load import load_interactions, load_table
from slatewise.serving.features.online import OnlineFeatures, Reading
from slatewise.serving.features.reader import Counts, Reader, ReaderConfig
from slatewise.serving.features.redis import RedisStore
from slatewise.serving.log import open_log
from slatewise.serving.moments import micros, moment
from slatewise.serving.recorder import Recorder


@pytest.fixture(scope="module")
def redis():
    server, folder = servers.redis()
    yield server
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "fake redis", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "sqlite":
        opened: Store = open_store(f"sqlite:///{tmp_path / 'f.db'}")
    elif request.param == "redis":
        url = request.getfixturevalue("redis").url
        opened = open_store(url, {"prefix": tmp_path.name, "timeout_seconds": 5.0})
    else:
        opened = RedisStore(fakeredis.FakeRedis(), tmp_path.name)
    yield opened
    opened.close()


# --- every backend ---


def test_what_goes_in_comes_out(store: Store) -> None:
    odd = ["", "ü:\n'", "7", "a" * 500]
    assert store.put("items", ((name, name.encode() + b"!") for name in odd)) == 4
    assert store.put("users", [("7", b"u")]) == 1
    assert store.put("past", [("7", b"p")]) == 1
    assert store.put("items", [("7", b"new")]) == 1
    assert store.put("items", []) == 0
    kept = store.get(["7", "8"], [*odd, "none"], 10)
    assert kept.items == {name: b"new" if name == "7" else name.encode() + b"!" for name in odd}
    assert (kept.users, kept.past) == ({"7": b"u"}, {"7": b"p"})
    assert store.get([], [], 10) == Kept()
    assert store.get(["7"], [], 0) == Kept(users={"7": b"u"})


def test_many_rows(store: Store) -> None:
    assert store.put("items", ((str(at), str(at).encode()) for at in range(2500))) == 2500
    names = [str(at) for at in range(0, 2500, 5)]
    assert store.get([], names, 0).items == {name: name.encode() for name in names}


def test_events_are_a_tail_in_order(store: Store) -> None:
    store.append({"a": [b"1", b"2"], "b": [b"9"]}, 4)
    store.append({"a": [b"3", b"4", b"5"]}, 4)
    events = store.get(["a", "b", "c"], [], 100).events
    assert (list(events["a"]), list(events["b"]), list(events.get("c", []))) == (
        [b"2", b"3", b"4", b"5"],
        [b"9"],
        [],
    )
    assert list(store.get(["a"], [], 2).events["a"]) == [b"4", b"5"]


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_are_exact(values: list[float]) -> None:
    store = RedisStore(fakeredis.FakeRedis())
    load_table(store, "items", pl.DataFrame({"item_id": range(len(values)), "x": values}))
    kept = store.get([], list(map(str, range(len(values)))), 0).items
    back = [msgspec.json.decode(kept[str(at)])["x"] for at in range(len(values))]
    assert np.array(back, np.float64).tobytes() == np.array(values, np.float64).tobytes()


def test_tables_of_every_type_and_of_none() -> None:
    store = RedisStore(fakeredis.FakeRedis())
    assert load_table(store, "users", pl.DataFrame({"user_id": ["a", "b"]})) == 2
    assert store.get(["a"], [], 0).users == {"a": b"{}"}
    table = {
        "item_id": [1, 2],
        "x": [1.0, float("nan")],
        "ü": [True, None],
        "s": ['"q\n', None],
        "n": [7, -(2**63)],
    }
    load_table(store, "items", pl.DataFrame(table))
    rows = [msgspec.json.decode(body) for body in store.get([], ["1", "2"], 0).items.values()]
    assert rows[0] == {"x": 1.0, "ü": True, "s": '"q\n', "n": 7}
    assert rows[1] == {"x": None, "ü": None, "s": None, "n": -(2**63)}


def test_who_reads_waits_for_no_writer(tmp_path: Path) -> None:
    """Another process loads for long: what was there is read at once, also while this one waits to append."""
    path = tmp_path / "f.db"
    store = open_store(str(path), {"busy_seconds": 5.0})
    store.put("users", [("7", b"u")])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = threading.Thread(target=store.append, args=({"7": [b"1"]}, 10))
    writing.start()
    time.sleep(0.05)
    started = time.monotonic()
    assert store.get(["7"], [], 10) == Kept(users={"7": b"u"}, events={"7": []})
    assert time.monotonic() - started < 1.0
    assert writing.is_alive()
    other.execute("COMMIT")
    writing.join()
    assert store.get(["7"], [], 10).events == {"7": [b"1"]}
    other.close()
    store.close()


def test_who_is_unknown_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    """Such a user is known by his request's id."""
    store = open_store(str(tmp_path / "f.db"))
    recorder = Recorder(open_log(str(tmp_path / "log.db")), store)
    recorder.write([exposure("r1", user_id="r1"), click("r1"), exposure("r2", user_id="u2"), click("r2")])
    recorder.write([click("r1", "a")])
    recorder.close()
    with sqlite3.connect(tmp_path / "f.db") as found:
        assert found.execute("SELECT id, count(*) FROM events GROUP BY id").fetchall() == [("u2", 2)]
    found.close()
    store.close()


# --- features of a request ---


def fitted() -> FeatureTransform:
    """Fitted without items 30 to 44 and users from 8 on: they are new."""
    return FeatureTransform.fit(
        random_requests(),
        user_table(15).head(8),
        item_table(45).head(30),
        length=3,
        exposed_width=4,
        history=5,
        candidates_width=9,
    )


def online_features(store: Store, **reading) -> OnlineFeatures:
    return OnlineFeatures(Reader(store, ReaderConfig(**reading)), fitted(), Reading({"click": 1.0}))


def asked(count: int = 40) -> pl.DataFrame:
    return random_requests(count, items=45, users=14, seed=3).drop("exposed", "propensity", "^feedback_.*$")


def assert_batches_equal(one, other) -> None:
    for field in fields(one):
        assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_new_users_and_items_have_the_features_of_their_tables(store: Store) -> None:
    items, users, requests = item_table(45).drop("genres"), user_table(15), asked()
    load_table(store, "items", items)
    load_table(store, "users", users)
    online = online_features(store)
    wanted = online.transform.batch(requests, items=items, users=users)
    assert not torch.equal(wanted.item_numeric_BNF, online.transform.batch(requests).item_numeric_BNF)
    assert_batches_equal(online.batch(rows_of(requests)), wanted)
    assert online.reader.counts == Counts(
        calls=1, users=14, items=requests["candidates"].explode().n_unique()
    )


def test_new_items_of_the_history_have_features_too(store: Store) -> None:
    load_table(store, "items", item_table(45).drop("genres"))
    online = online_features(store)
    requests = asked(3).with_columns(history=pl.Series([[41, 2], [], [44]]))
    wanted = online.transform.batch(requests, items=item_table(45).drop("genres"))
    assert_batches_equal(online.batch(rows_of(requests)), wanted)


def test_what_is_missing_is_cold_and_counted(store: Store) -> None:
    load_table(store, "users", user_table(3))
    online, requests = online_features(store), asked()
    assert_batches_equal(
        online.batch(rows_of(requests)), online.transform.batch(requests, users=user_table(3))
    )
    counts = online.reader.counts
    assert (counts.users, counts.users_missing) == (14, 11)
    assert counts.items == counts.items_missing > 30
    nobody = requests.drop("user_id", "timestamp").head(2)
    assert_batches_equal(online.batch(rows_of(nobody)), online.transform.batch(nobody))


def test_rows_that_are_damaged_are_missing_and_counted(store: Store) -> None:
    store.put("users", [("u1", b"{"), ("u2", b"[1]")])
    store.put("past", [("u1", b"{}")])
    store.append({"u2": [b"?"]}, 10)
    online, requests = online_features(store), asked()
    assert_batches_equal(
        online.batch(rows_of(requests)), online.transform.batch(requests.with_columns(history=pl.lit([])))
    )
    assert online.reader.counts.damaged >= 4


def test_a_column_of_two_types_is_read_as_text(store: Store) -> None:
    store.put("items", [("1", b'{"category": "a", "price": 2.5}'), ("2", b'{"category": 7, "price": "4"}')])
    online = online_features(store)
    requests = pl.DataFrame({"candidates": [[1, 2]]})
    table = pl.DataFrame({"item_id": [1, 2], "category": ["a", "7"], "price": [2.5, 4.0]})
    assert_batches_equal(online.batch(rows_of(requests)), online.transform.batch(requests, items=table))


def test_a_row_that_changes_is_encoded_again(store: Store) -> None:
    online, requests = online_features(store), pl.DataFrame({"candidates": [[1, 2, 44]]})
    for price in (1.0, 30.0, 1.0):
        table = pl.DataFrame({"item_id": [1, 44], "price": [price, 2 * price]})
        load_table(store, "items", table)
        for _ in range(2):
            assert_batches_equal(
                online.batch(rows_of(requests)), online.transform.batch(requests, items=table)
            )


def test_a_row_changes_only_what_it_names(store: Store) -> None:
    store.put("items", [("1", b'{"price": 3.0}'), ("2", b'{"category": "c"}'), ("3", b'{"price": null}')])
    online, requests = online_features(store), pl.DataFrame({"candidates": [[1], [2], [3]]})
    tables = (
        pl.DataFrame({"item_id": [1], "price": [3.0]}),
        pl.DataFrame({"item_id": [2], "category": ["c"]}),
        pl.DataFrame({"item_id": [3], "price": [None]}),
    )
    wanted = [online.transform.batch(requests[at], items=table) for at, table in enumerate(tables)]
    got = online.batch(rows_of(requests))
    for at, one in enumerate(wanted):
        assert torch.equal(got.item_numeric_BNF[at], one.item_numeric_BNF[0])
        assert torch.equal(got.item_categories_BNC[at], one.item_categories_BNC[0])


def test_what_is_remembered_has_a_bound() -> None:
    entity = fitted().items
    encoder, rows = Encoder(entity, lambda: None, size=3), {str(at): b'{"price": %d}' % at for at in range(9)}
    first = encoder.newer(rows)
    assert len(encoder._known) == 3
    again = encoder.newer(dict(reversed(rows.items())))
    for at in rows:
        assert (first.table.numeric[first.row[at]] == again.table.numeric[again.row[at]]).all()
    assert encoder.newer({}) is None


# --- outages ---


class Breaking:
    """A store that fails while ``down``, and counts how often it is asked."""

    def __init__(self, store: Store) -> None:
        self.store, self.down, self.asked = store, False, 0

    def __getattr__(self, name: str):
        def call(*arguments, **named):
            self.asked += 1
            if self.down:
                raise StoreError("down")
            return getattr(self.store, name)(*arguments, **named)

        return call


def test_an_outage_is_cold_and_the_store_is_left_alone_for_a_while() -> None:
    store = Breaking(RedisStore(fakeredis.FakeRedis()))
    load_table(store, "items", item_table(45).drop("genres"))
    online, requests = online_features(store, retry_seconds=0.2), asked(4)
    warm, cold = online.batch(rows_of(requests)), online.transform.batch(requests)
    store.down, store.asked = True, 0
    for _ in range(5):
        assert_batches_equal(online.batch(rows_of(requests)), cold)
    assert store.asked == 1
    assert (online.reader.counts.failures, online.reader.counts.skipped) == (1, 4)
    store.down = False
    time.sleep(0.25)
    assert_batches_equal(online.batch(rows_of(requests)), warm)


def test_a_redis_that_goes_away_and_comes_back(redis: servers.Server, tmp_path: Path) -> None:
    store = open_store(redis.url, {"prefix": tmp_path.name})
    recorder = Recorder(open_log(str(tmp_path / "log.db")), store)
    load_table(store, "users", user_table(3))
    online, requests = online_features(store, retry_seconds=0.0), asked(4)
    online.batch(rows_of(requests))
    redis.kill()
    started = time.perf_counter()
    assert_batches_equal(online.batch(rows_of(requests)), online.transform.batch(requests))
    assert time.perf_counter() - started < 2.0
    assert [one.outcome for one in recorder.write([exposure(), click()])] == ["new", "accepted"]
    assert recorder.lost_events == 2
    redis.start()
    online.batch(rows_of(requests))
    assert online.reader.counts.failures == 1
    recorder.write([exposure("r2")])
    assert recorder.lost_events == 2
    recorder.close()
    with pytest.raises(UnavailableError, match="does not answer"):
        load_table(open_store("redis://localhost:1"), "users", user_table(1))


def test_a_file_that_another_process_holds_is_an_outage(tmp_path: Path) -> None:
    import sqlite3

    store = open_store(str(tmp_path / "f.db"), {"busy_seconds": 0.05})
    other = sqlite3.connect(tmp_path / "f.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.append({"a": [b"1"]}, 4)
    assert store.get(["a"], [], 4).users == {}  # who reads does not wait for who writes
    other.execute("ROLLBACK")
    store.append({"a": [b"1"]}, 4)
    with pytest.raises(ZeroDivisionError):
        store.put("items", ((str(at), b"%d" % (1 // (2 - at))) for at in range(3)))
    assert store.get([], ["0", "1"], 0).items == {}  # all rows or none
    store.close()


PLACES = [
    ("mysql://x", {}, ConfigError, "Allowed: a path, sqlite://…, redis://…"),
    ("redis://x", {"prefx": "a"}, ConfigError, "Did you mean 'prefix'"),
    ("redis://x", {"timeout_seconds": 0.0}, ConfigError, "above 0"),
    ("redis://x:port", {}, ConfigError, "no URL of a Redis"),
    ("no/folder/f.db", {}, UnavailableError, "cannot be opened"),
]


@pytest.mark.parametrize(("url", "options", "kind", "said"), PLACES)
def test_places_that_are_none(url: str, options, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        open_store(url, options)


def test_without_its_driver_the_store_says_what_to_install(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "slatewise.serving.features.redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"needs redis; install it with pip install 'slatewise\[serve\]'"):
        open_store("redis://localhost")


@pytest.mark.parametrize("change", [{"events": -1}, {"retry_seconds": -1.0}])
def test_settings_out_of_range(change) -> None:
    with pytest.raises(ConfigError, match="0 or more"):
        Reader(RedisStore(fakeredis.FakeRedis()), ReaderConfig(**change))


# --- history ---


def shown(request: str, time: int, *items: str) -> bytes:
    return encode(Shown(request, time, list(items), {"device": "phone"}))


def done(request: str, place: int, kind: str, value: float, time: int | None = None) -> bytes:
    return encode(Done(request, place, kind, value, time))


def told(events: list[bytes], past: bytes | None = None, before: int | None = None, **rules) -> list[tuple]:
    return [(one.time, one.item, one.feedback) for one in history_of(past, events, rules, before)]


def test_events_are_folded_into_a_history() -> None:
    events = [
        shown("r2", 20, "c"),
        done("r2", 0, "click", 1.0),
        shown("r1", 10, "a", "b"),
        shown("r1", 10, "a", "b"),  # once more
        done("r1", 1, "click", 1.0),
        done("r1", 1, "click", 1.0),
        done("r1", 1, "value", 2.0),
        done("r1", 1, "value", 3.0),
        done("r0", 0, "click", 1.0),  # of a list that was trimmed away
    ]
    assert told(events) == [(10, "a", {}), (10, "b", {"click": 1.0, "value": 5.0}), (20, "c", {"click": 1.0})]
    assert told(events, before=20) == told(events)[:2]
    assert told(events, before=10) == []


def test_the_last_rating_is_the_last_in_time() -> None:
    events = [shown("r", 1, "a"), *(done("r", 0, "stars", v, t) for v, t in ((3.0, 7), (5.0, 9), (1.0, 8)))]
    assert told(events, stars="last")[0][2] == {"stars": 5.0}
    assert told(events, stars="max")[0][2] == {"stars": 5.0}
    assert told(events)[0][2] == {"stars": 9.0}


def test_what_was_loaded_speaks_for_its_time() -> None:
    past = encode(Past([1, 5], ["x", "y"], {"click": [1.0, None]}, c={"device": ["tv", None]}, until=10))
    events = [shown("r1", 10, "a"), done("r1", 0, "click", 1.0), shown("r2", 11, "b")]
    assert told(events, past) == [(1, "x", {"click": 1.0}), (5, "y", {"click": 0.0}), (11, "b", {})]


@pytest.mark.parametrize("own", ["feedback", None])
def test_loaded_interactions_with_one_number_or_none(store: Store, own: str | None) -> None:
    frame = pl.DataFrame({"user_id": ["u1"] * 3, "item_id": [3, 1, 2], "timestamp": [30, 10, 20]})
    frame = frame.with_columns(feedback=pl.Series([0.5, 2.0, -1.0]) if own else pl.lit(1.0))
    load_interactions(store, frame, keep=2)
    batch = online_features(store).batch([Row([1], user="u1", time=40)])
    vocab = fitted().items.vocab
    assert batch.history_BH[0, :2].tolist() == [vocab.lookup(2), vocab.lookup(3)]
    assert batch.history_feedback_BH[0, :2].tolist() == ([-1.0, 0.5] if own else [1.0, 1.0])
    assert batch.history_time_BH[0, :2].tolist() == [20, 30]


def test_a_request_that_brings_its_history_keeps_it(store: Store) -> None:
    store.append({"u1": [shown("r", 1, "5")]}, 10)
    past = RequestPast([7])
    batch = online_features(store).batch([Row([1], user="u1", past=past)], [START])
    assert batch.history_BH[0].tolist() == [fitted().items.vocab.lookup(7), 0, 0, 0, 0]


def test_a_request_without_a_user_has_no_history(store: Store) -> None:
    store.append({"None": [shown("r", 1, "5")]}, 10)
    rows = [Row([1], user=user) for user in (None, "None")]
    assert online_features(store).batch(rows, [START] * 2).history_mask_BH.sum(1).tolist() == [0, 1]


def test_settled_feedback_reaches_the_history(tmp_path: Path) -> None:
    """Feedback before its list, in one write and in two."""
    store = RedisStore(fakeredis.FakeRedis())
    recorder = Recorder(open_log(str(tmp_path / "log.db")), store)
    recorder.write([click("r1"), exposure("r1")])
    recorder.write([click("r2", item="a")])
    recorder.write([exposure("r2", timestamp=START + 1)])
    recorder.write([exposure("r2", timestamp=START + 2), click("r2", item="a"), click("r2", item="zz")])
    recorder.close()
    events = store.get(["u7"], [], 100).events["u7"]
    clicked, nothing = {"click": 1.0}, {}
    assert told(list(events)) == [
        (START, "c", clicked),
        (START, "a", nothing),
        (START + 1, "c", nothing),
        (START + 1, "a", clicked),
    ]


@given(number=st.integers(-(10**18), 2 * 10**18))
def test_a_table_and_a_command_line_mean_the_same_moment(number: int) -> None:
    assert micros(pl.Series([number])).tolist() == [moment(str(number), "--since")]


def test_moments_of_every_type() -> None:
    when = pl.Series(["2023-11-14T22:13:20Z", None, "soon"])
    assert micros(when).tolist() == [START, 0, 0]
    assert micros(when.head(1).str.to_datetime(time_zone="UTC")).tolist() == [START]
    assert micros(pl.Series([1_700_000_000.5, float("nan"), None])).tolist() == [START + 500_000, 0, 0]
    assert micros(pl.Series([True])).tolist() == [0]
