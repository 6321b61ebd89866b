"""The SQLite metadata store: durable when it says so, migrated under a lock, and never blocking readers."""

import itertools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from strata.artifacts import STORE_DOWN, ArtifactRecord, BlobFacts, NewerDatabaseError, SqlMetadataStore
from strata.artifacts.metadata import migrate, sql_store
from strata.artifacts.metadata.schema import schema
from strata.outcomes import RefusalError

KEY = "k" * 64


def opened(path: Path) -> SqlMetadataStore:
    clock = itertools.count(1000)
    return SqlMetadataStore(path / "metadata.db", lambda: float(next(clock)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlMetadataStore]:
    found = opened(tmp_path)
    yield found
    found.close()


@pytest.fixture
def locked(store: SqlMetadataStore, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the write lock from another connection."""
    other = sqlite3.connect(tmp_path / "metadata.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def begin(store: SqlMetadataStore, build_id: str = "b1") -> None:
    store.begin_build(
        "t", build_id=build_id, provenance_hash=KEY, query_hash="q" * 64, transform_spec="{}",
        input_versions=[("uri", "1")], executor_ref="scan@v1", name="n",
    )  # fmt: skip


def ready(store: SqlMetadataStore, build_id: str = "b1") -> ArtifactRecord:
    begin(store, build_id)
    facts = BlobFacts("a" * 64, 10, Path("x"))
    found = store.finish_build("t", build_id, facts=facts, row_count=3, arrow_schema="id: int64")
    assert isinstance(found, ArtifactRecord)
    return found


def test_everything_is_there_after_a_restart(store: SqlMetadataStore, tmp_path: Path) -> None:
    """Rows survive, and opening a database that is in use succeeds."""
    artifact = ready(store)
    again = opened(tmp_path)

    assert artifact == again.find_ready("t", KEY)
    assert store.get_build("t", "b1") == again.get_build("t", "b1")
    assert store.list_names("t") == again.list_names("t")
    assert again.probe()
    again.close()


def test_commits_are_synced(store: SqlMetadataStore) -> None:
    """WAL with synchronous=FULL on every connection: a ready artifact survives a power cut."""
    everyone = threading.Barrier(6)

    def modes(_: int) -> tuple[object, object]:
        with store._engine.connect() as connection:
            everyone.wait(10)  # six connections at once, so none is another one again
            return (
                connection.exec_driver_sql("PRAGMA journal_mode").scalar(),
                connection.exec_driver_sql("PRAGMA synchronous").scalar(),
            )

    with ThreadPoolExecutor(6) as threads:
        assert {("wal", 2)} == set(threads.map(modes, range(6)))


def test_what_is_ready_is_on_disk_and_only_a_beginning_may_be_lost(store: SqlMetadataStore) -> None:
    """A power cut ends a running build anyway, so its first byte need not wait for the disk.

    On one connection repeatedly: a transaction's setting does not persist to the next one.
    """
    synced = []

    def committed(connection: sa.Connection) -> None:
        synced.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())

    sa.event.listen(store._engine, "commit", committed)
    full, normal = 2, 1
    for attempt in range(2):
        begin(store, f"b{attempt}")
        artifact = store.finish_build(
            "t",
            f"b{attempt}",
            facts=BlobFacts("a" * 64, 10, Path("x")),
            row_count=3,
            arrow_schema="id: int64",
        )
        assert isinstance(artifact, ArtifactRecord)
        assert [normal, full] == synced
        synced.clear()
        store.set_name("t", "n", artifact.artifact_id, artifact.version)
        begin(store, f"c{attempt}")
        store.fail_build("t", f"c{attempt}", code="abandoned", message="gone")
        assert [full, normal, full] == synced
        synced.clear()


def test_readers_never_wait_for_a_writer(store: SqlMetadataStore, locked: sqlite3.Connection) -> None:
    """A past error: every read took the write lock, so a hit waited for other tenants' commits."""
    with ThreadPoolExecutor(1) as threads:
        for question in (
            lambda: store.find_ready("t", KEY),
            lambda: store.get_build("t", "b"),
            lambda: store.list_artifacts("t", limit=1, offset=0),
            lambda: store.stats("t"),
            lambda: store.list_names("t"),
            store.probe,
        ):
            threads.submit(question).result(10)  # BUSY_SECONDS is 30


def test_a_page_and_its_total_are_of_one_moment(
    store: SqlMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that ends between the two queries is in both results or in neither."""
    ready(store)
    real = sa.Connection.scalar

    def slow(self: sa.Connection, *args: object) -> object:
        total = real(self, *args)
        monkeypatch.setattr(sa.Connection, "scalar", real)
        ready(store, "b2")
        return total

    monkeypatch.setattr(sa.Connection, "scalar", slow)
    page = store.list_artifacts("t", limit=9, offset=0)

    assert (1, 1) == (page.total, len(page.artifacts))
    assert 2 == store.list_artifacts("t", limit=9, offset=0).total


def test_a_store_that_does_not_answer_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lock held too long, like a full disk, is a 503 with retry, and nothing is half-written."""
    monkeypatch.setattr(sql_store, "BUSY_SECONDS", 0)
    store = opened(tmp_path)
    other = sqlite3.connect(tmp_path / "metadata.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(RefusalError) as refusal:
        begin(store)
    assert STORE_DOWN is refusal.value.refused

    other.execute("ROLLBACK")
    assert None is store.get_build("t", "b1")
    ready(store)
    other.close()
    store.close()


def test_a_file_that_is_gone_does_not_answer(store: SqlMetadataStore, tmp_path: Path) -> None:
    """Readiness fails: an empty file that SQLite would create in its place is no store."""
    store._engine.dispose()
    for file in tmp_path.glob("metadata.db*"):
        file.unlink()

    assert not store.probe()
    with pytest.raises(RefusalError):
        store.find_ready("t", KEY)


def test_a_damaged_file_is_a_refusal(store: SqlMetadataStore, tmp_path: Path) -> None:
    """SQLite raises another error for it than for a full disk."""
    ready(store)
    store._engine.dispose()
    for file in tmp_path.glob("metadata.db-*"):
        file.unlink()
    (tmp_path / "metadata.db").write_bytes(b"no database at all" * 1000)

    assert not store.probe()
    for call in (partial(store.find_ready, "t", KEY), partial(begin, store, "b2"), partial(store.stats, "t")):
        with pytest.raises(RefusalError) as refusal:
            call()
        assert STORE_DOWN is refusal.value.refused


def test_a_violated_constraint_is_a_bug(store: SqlMetadataStore) -> None:
    """It must not look like a store that is down for a moment."""
    with pytest.raises(sa.exc.IntegrityError), store._writing() as connection:
        connection.execute(sa.text("INSERT INTO names VALUES ('t', 'n', NULL, 1, 1.0)"))
    ready(store)


def test_writers_stand_in_line(store: SqlMetadataStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's polling made some of sixteen writers wait a second; one that waits too long is refused."""
    monkeypatch.setattr(sql_store, "BUSY_SECONDS", 0.01)
    with store._writing(), ThreadPoolExecutor(1) as threads:
        late = threads.submit(begin, store)
        assert isinstance(late.exception(30), RefusalError)
    monkeypatch.setattr(sql_store, "BUSY_SECONDS", 30)
    waiting: list[int] = []
    seen: list[int] = []

    def counted(_connection: sa.Connection) -> None:
        waiting.append(1)
        seen.append(len(waiting))

    sa.event.listen(store._engine, "begin", counted, insert=True)  # before BEGIN IMMEDIATE
    sa.event.listen(store._engine, "commit", lambda _connection: waiting.pop())
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda index: begin(store, f"c{index}"), range(32)))
    assert [1] * 32 == seen, "no two of them are at SQLite's door"


def test_a_write_is_all_or_nothing(store: SqlMetadataStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """If any statement fails, the version, its build and its name are unchanged."""
    begin(store)
    before = (store.get_build("t", "b1"), store.list_artifacts("t", limit=9, offset=0))
    facts = BlobFacts("a" * 64, 10, Path("x"))
    failures = 0
    for step in itertools.count(1):
        statements = itertools.count(1)

        def fail(*_: object, at: int = step, of: Iterator[int] = statements) -> None:
            if next(of) == at:
                raise sqlite3.OperationalError("disk I/O error")

        sa.event.listen(store._engine, "before_cursor_execute", fail)
        try:
            store.finish_build("t", "b1", facts=facts, row_count=1, arrow_schema="")
        except (RefusalError, sqlite3.OperationalError):
            failures += 1
        else:
            break
        finally:
            sa.event.remove(store._engine, "before_cursor_execute", fail)
        assert before == (store.get_build("t", "b1"), store.list_artifacts("t", limit=9, offset=0))
        assert None is store.get_name("t", "n")
    assert failures >= 6
    assert store.find_ready("t", KEY) is not None
    assert store.get_name("t", "n") is not None


def test_migrations_make_the_schema_the_code_uses(store: SqlMetadataStore) -> None:
    """A column or index that is only in the migrations or only in the schema fails here."""
    with store._engine.connect() as connection:
        assert [] == compare_metadata(MigrationContext.configure(connection), schema)


def migrated(path: Path, revision: str) -> None:
    """Create a database as an older version left it."""
    engine = sa.create_engine(f"sqlite:///{path / 'metadata.db'}")
    config = Config()
    config.set_main_option("script_location", "strata.artifacts:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_a_database_of_the_first_revision_is_brought_up_with_its_rows(tmp_path: Path) -> None:
    """Opening a database upgrades it and keeps its rows."""
    migrated(tmp_path, "0001")
    with sqlite3.connect(tmp_path / "metadata.db") as connection:
        connection.execute("INSERT INTO names VALUES ('t', 'n', 'a', 3, 5.0)")

    store = opened(tmp_path)

    assert 3 == store.get_name("t", "n").version
    ready(store)
    with store._engine.connect() as connection:
        assert [] == compare_metadata(MigrationContext.configure(connection), schema)
    store.close()


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DDL is part of the transaction, so the old version can still open the database."""
    migrated(tmp_path, "0001")

    def dump() -> list[str]:
        with sqlite3.connect(tmp_path / "metadata.db") as connection:
            return list(connection.iterdump())

    before = dump()
    upgrade = migrate.command.upgrade

    def half_way(config: Config, revision: str) -> None:
        upgrade(config, revision)
        raise RuntimeError("killed")

    monkeypatch.setattr(migrate.command, "upgrade", half_way)
    with pytest.raises(RuntimeError, match="killed"):
        opened(tmp_path)
    assert before == dump()

    monkeypatch.undo()
    store = opened(tmp_path)
    assert before != dump()
    store.close()


def test_a_newer_database_is_refused(store: SqlMetadataStore, tmp_path: Path) -> None:
    """The message says what to do, and the database is untouched."""
    with sqlite3.connect(tmp_path / "metadata.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        before = list(connection.iterdump())

    with pytest.raises(NewerDatabaseError, match=r"9999.*Upgrade Strata"):
        opened(tmp_path)
    with sqlite3.connect(tmp_path / "metadata.db") as connection:
        assert before == list(connection.iterdump())


def test_a_new_database_is_opened_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's busy timeout does not cover the switch to WAL, so concurrent opens could fail."""
    real, met = sql_store._use_wal, threading.Barrier(2)
    alone: list[bool] = []

    def watched(engine: sa.Engine) -> None:
        if not alone:
            with suppress(threading.BrokenBarrierError):
                met.wait(0.2)
            alone.append(met.broken)
        real(engine)

    monkeypatch.setattr(sql_store, "_use_wal", watched)
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(lambda _: opened(tmp_path), range(8)))

    assert [True] == alone
    for store in stores:
        assert store.probe()
        store.close()


REFRESH = """
import sys
from pathlib import Path

from strata.artifacts import SqlMetadataStore

store = SqlMetadataStore(Path(sys.argv[1]), lambda: 1000.0)
for build in sys.argv[2:]:
    record = store.begin_build(
        "t", build_id=build, provenance_hash="k" * 64, query_hash="q" * 64, transform_spec="{}",
        input_versions=[], executor_ref="scan@v1", name=None, refresh=True,
    )
    print(record.version)
store.close()
"""


@pytest.mark.slow
def test_processes_that_open_a_new_database_together_share_its_versions(tmp_path: Path) -> None:
    """The lock works between processes, and so do transactions: no version is given twice."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REFRESH, str(tmp_path / "metadata.db"), *(f"{one}{build}" for build in range(3))],
            stdout=subprocess.PIPE, text=True,
        )
        for one in "abcd"
    ]  # fmt: skip
    versions = [int(line) for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert [0] * 4 == [process.returncode for process in processes]
    assert list(range(1, 13)) == sorted(versions)


def statements(store: SqlMetadataStore, question: Callable[[], object]) -> list[tuple[str, object]]:
    """Collect the statements sent to SQLite."""
    asked: list[tuple[str, object]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    sa.event.listen(store._engine, "before_cursor_execute", note)
    question()
    sa.event.remove(store._engine, "before_cursor_execute", note)
    return [(text, parameters) for text, parameters in asked if not text.startswith("BEGIN")]


@pytest.mark.parametrize(
    ("question", "index"),
    [
        (lambda store: store.find_ready("t", KEY), "artifacts_by_provenance"),
        (lambda store: store.get_artifact("t", "a", 1), "sqlite_autoindex_artifacts_1"),
        (lambda store: store.get_build("t", "b"), "sqlite_autoindex_builds_1"),
        (lambda store: store.get_name("t", "n"), "sqlite_autoindex_names_1"),
    ],
)
def test_the_hot_path_is_one_look_into_an_index(store: SqlMetadataStore, question, index: str) -> None:
    """The statement actually sent uses an index, without scan or sort, however many artifacts exist."""
    [(statement, parameters)] = statements(store, lambda: question(store))
    with store._engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert 1 == len(plan), plan
    assert f"SEARCH {statement.split('FROM ')[1].split()[0]} USING INDEX {index} " in plan[0].detail


def test_beginning_a_build_scans_nothing(store: SqlMetadataStore) -> None:
    """The cost does not grow with the number of a tenant's builds."""
    ready(store)
    asked = statements(store, lambda: begin(store, "b2"))
    with store._engine.connect() as connection:
        plans = [
            row.detail
            for statement, parameters in asked
            if statement.startswith("SELECT")
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert len(plans) >= 3
    assert not [plan for plan in plans if not plan.startswith("SEARCH")]
    assert any("builds_by_artifact" in plan for plan in plans)
