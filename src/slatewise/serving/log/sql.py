"""The feedback log's database: tables, transactions and statements, for SQLite and PostgreSQL alike.

The only file that imports SQLAlchemy; what comes out is plain Python. Whoever writes about a request holds that
request's lock until the commit (SQLite: the file's write lock, PostgreSQL: an advisory lock), so to look and then to
write is safe everywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from slatewise.errors import DataError, UnavailableError
from slatewise.serving.records import Chosen
from slatewise.serving.urls import Url
from slatewise.serving.wal import write_ahead

VERSION = 1  # of the tables; a change adds a step to MIGRATIONS
MIGRATIONS: dict[int, tuple[str, ...]] = {}  # version reached → statements
LOCK_ROOM, LOCKS = 0x51A7E, 1024  # PostgreSQL: the first key of our advisory locks, and how many there are
BUSY_SECONDS = 5  # how long a writer waits for the others' commits

Row = Mapping[str, Any]

_tables = sa.MetaData()
_serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")
meta = sa.Table(
    "slatewise_meta",
    _tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
exposures = sa.Table(
    "slatewise_exposures",
    _tables,
    sa.Column("seq", _serial, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False, unique=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("arm", sa.Text),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("slatewise_exposures_time", "time", "seq"),
)
feedback = sa.Table(
    "slatewise_feedback",
    _tables,
    sa.Column("seq", _serial, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("time", sa.BigInteger),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("late", sa.Boolean, nullable=False),
    sa.UniqueConstraint("request_id", "place", "kind", "event"),
)
waiting = sa.Table(
    "slatewise_waiting",
    _tables,
    sa.Column("seq", _serial, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False, index=True),
    sa.Column("received", sa.BigInteger, nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),
)


class Transaction:
    """Statements of one transaction. Tables go by name (``exposures``, ``feedback``, ``waiting``), rows are mappings."""

    def __init__(self, connection: sa.Connection) -> None:
        self._run = connection.execute

    def of_requests(self, name: str, requests: Sequence[str]) -> list[Row]:
        """The rows of a table about these requests, oldest first."""
        table = _table(name)
        return self._rows(sa.select(table).where(table.c.request_id.in_(requests)).order_by(table.c.seq))

    def newest(self, name: str, count: int) -> list[Row]:
        """The last so many rows of a table, newest first."""
        table = _table(name)
        return self._rows(sa.select(table).order_by(table.c.seq.desc()).limit(count))

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """Insert rows, in their order."""
        if rows:
            self._run(sa.insert(_table(name)), list(map(dict, rows)))

    def drop_waiting(self, seqs: Sequence[int]) -> None:
        """Take feedback out of the side table."""
        if seqs:
            self._run(sa.delete(waiting).where(waiting.c.seq.in_(seqs)))

    def expire(self, before: int) -> int:
        """Drop and count feedback that waited in vain since ``before`` (microseconds)."""
        gone = self._run(sa.delete(waiting).where(waiting.c.received < before)).rowcount
        if gone:
            self._run(sa.update(meta).where(meta.c.name == "expired").values(value=meta.c.value + gone))
        return gone

    def drop_requests(self, requests: Sequence[str]) -> int:
        """Delete exposures and all feedback on them, and count the exposures."""
        for table in (feedback, waiting):
            self._run(sa.delete(table).where(table.c.request_id.in_(requests)))
        return self._run(sa.delete(exposures).where(exposures.c.request_id.in_(requests))).rowcount

    def oldest(self, before: int, limit: int) -> list[str]:
        """The request ids of the first exposures before a time (microseconds)."""
        table = exposures.c
        query = sa.select(table.request_id).where(table.time < before).order_by(table.time, table.seq)
        return [row["request_id"] for row in self._rows(query.limit(limit))]

    def page(self, chosen: Chosen, after: tuple[int, int], limit: int) -> list[Row]:
        """The next exposures in order of time and arrival: ``seq, time, body``."""
        table = exposures.c
        query = sa.select(table.seq, table.time, table.body).where(*_conditions(chosen))
        query = query.where(sa.tuple_(table.time, table.seq) > sa.tuple_(*after))
        return self._rows(query.order_by(table.time, table.seq).limit(limit))

    def kinds(self, chosen: Chosen) -> list[Row]:
        """The kinds of feedback on the chosen exposures, with their ``count`` of events."""
        kind = feedback.c.kind
        query = sa.select(kind, sa.func.count(feedback.c.seq).label("count")).join_from(
            feedback, exposures, feedback.c.request_id == exposures.c.request_id
        )
        return self._rows(query.where(*_conditions(chosen)).group_by(kind).order_by(kind))

    def count(self, chosen: Chosen) -> int:
        """How many exposures are meant."""
        query = sa.select(sa.func.count(exposures.c.seq).label("count")).where(*_conditions(chosen))
        return int(self._rows(query)[0]["count"])

    def counts(self, name: str, *by: str) -> list[Row]:
        """How many rows of a table there are of each combination of the columns ``by``, as ``count``."""
        columns = [_table(name).c[column] for column in by]
        count = sa.func.count(_table(name).c.seq).label("count")
        return self._rows(sa.select(*columns, count).group_by(*columns).order_by(*columns))

    def span(self) -> Row:
        """``first`` and ``last`` time of an exposure."""
        times = exposures.c.time
        return self._rows(sa.select(sa.func.min(times).label("first"), sa.func.max(times).label("last")))[0]

    def value(self, name: str) -> int:
        """A number of the table ``slatewise_meta``."""
        return int(self._rows(sa.select(meta.c.value).where(meta.c.name == name))[0]["value"])

    def _rows(self, query: sa.Select[Any]) -> list[Row]:
        return [dict(row._mapping) for row in self._run(query)]


class Database:
    """An open database with the tables in it."""

    def __init__(self, url: Url, *, create: bool = True) -> None:
        """Connect, and make the tables where there are none and ``create`` says so.

        Raises:
            DataError: there is no log, or one that another version wrote.   UnavailableError: no connection.
        """
        self.url = url
        if not create and url.path is not None and not Path(url.path).is_file():
            raise DataError(f"there is no feedback log at {url}; the server makes it when it starts.")
        self._engine = _connect(url)
        with self._guard():
            self._prepare(create)

    @contextmanager
    def write(self, requests: Sequence[str]) -> Iterator[Transaction]:
        """A transaction that writes about ``requests`` and nobody else does at the time; committed when it ends well.

        Raises:
            UnavailableError: the database does not answer, or is too busy.
        """
        with self._guard(), self._engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
            self._lock(connection, sorted({zlib.crc32(name.encode()) % LOCKS for name in requests}))
            yield Transaction(connection)

    @contextmanager
    def read(self, *, patient: bool = False) -> Iterator[Transaction]:
        """A transaction that sees one state of the database from its first statement to its end.

        Args:
            patient: statements may take as long as they need.

        Raises:
            UnavailableError: the database does not answer.
        """
        level = {} if self._sqlite else {"isolation_level": "REPEATABLE READ"}
        with self._guard(), self._engine.execution_options(**level).begin() as connection:
            if patient and not self._sqlite:
                connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            yield Transaction(connection)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @property
    def _sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def _lock(self, connection: sa.Connection, keys: list[int]) -> None:
        """In one order for everybody, so that two writers never wait for each other."""
        if not self._sqlite:
            lock = "SELECT pg_advisory_xact_lock(:room, k) FROM unnest(CAST(:keys AS int[])) AS k"
            connection.execute(sa.text(lock), {"room": LOCK_ROOM, "keys": keys})

    def _prepare(self, create: bool) -> None:
        with (
            self._engine.begin() as connection
        ):  # mostly all is there: who opens a log does not wait for who writes
            if (
                sa.inspect(connection).has_table(meta.name)
                and Transaction(connection).value("version") == VERSION
            ):
                return
        with self._engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
            self._lock(connection, [LOCKS])
            if sa.inspect(connection).has_table(meta.name):
                self._migrate(connection)
            elif create:
                _tables.create_all(connection)
                first = [{"name": "version", "value": VERSION}, {"name": "expired", "value": 0}]
                connection.execute(sa.insert(meta), first)
            else:
                raise DataError(
                    f"there is no feedback log at {self.url}; the server makes it when it starts."
                )

    def _migrate(self, connection: sa.Connection) -> None:
        found = Transaction(connection).value("version")
        if found > VERSION:
            raise DataError(
                f"the feedback log at {self.url} has tables of version {found}; this Slatewise knows up to {VERSION}. "
                "Use the newer one."
            )
        for version in range(found + 1, VERSION + 1):
            for statement in MIGRATIONS[version]:
                connection.execute(sa.text(statement))
            connection.execute(sa.update(meta).where(meta.c.name == "version").values(value=version))

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.IntegrityError, sa.exc.DataError):
            raise  # of one record, not of the database
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            cause = str(getattr(error, "orig", error)).strip().split("\n")[0]
            raise UnavailableError(f"the feedback log at {self.url} does not answer: {cause}.") from None


def _conditions(chosen: Chosen) -> list[sa.ColumnElement[bool]]:
    """The chosen exposures, as conditions on their table."""
    conditions = []
    if chosen.since is not None:
        conditions.append(exposures.c.time >= chosen.since)
    if chosen.until is not None:
        conditions.append(exposures.c.time < chosen.until)
    if chosen.arms:
        conditions.append(exposures.c.arm.in_(chosen.arms))
    return conditions


def _table(name: str) -> sa.Table:
    return _tables.tables[f"slatewise_{name}"]


def _connect(url: Url) -> sa.Engine:
    if url.path is not None:
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=url.path), connect_args={"timeout": BUSY_SECONDS}
        )
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin)
        return engine
    limits = f"-c statement_timeout={2000 * BUSY_SECONDS} -c lock_timeout={1000 * BUSY_SECONDS}"
    engine = sa.create_engine(
        sa.make_url(url.full).set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": BUSY_SECONDS, "options": limits},
        pool_pre_ping=True,  # a connection that a restart of the server cut is replaced, not an error
    )
    event.listen(engine, "connect", _set_up_postgres)
    return engine


def _set_up_sqlite(connection: Any, _: object) -> None:
    """Acknowledged is on disk: the log is synced at every commit. Transactions begin where we say so."""
    connection.isolation_level = None
    mode = write_ahead(connection, BUSY_SECONDS)
    if mode != "wal":
        raise DataError(
            f"the file system of the feedback log cannot hold SQLite's WAL (it is in mode {mode})."
        )
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _set_up_postgres(connection: Any, _: object) -> None:
    """Acknowledged is on disk, also where the server's default is to be faster."""
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.commit()
