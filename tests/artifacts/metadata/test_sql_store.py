"""The SQLite metadata store: durable when it says so, migrated under a lock, and never blocking readers."""

import itertools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from strata.artifacts import (
    ORDERS,
    SORTS,
    STORE_DOWN,
    Act,
    ArtifactRecord,
    BlobFacts,
    Cursor,
    NameOrder,
    NewerDatabaseError,
    SqlMetadataStore,
)
from strata.artifacts.database import migrate, sqlite
from strata.artifacts.database.schema import schema
from strata.artifacts.registry.sql_registry import SqlRegistry
from strata.outcomes import RefusalError
from strata.work.waiting_threads import WaitingThreads

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
    found = store.finish_build(
        "t", build_id, facts=facts, row_count=3, arrow_schema="id: int64", names=[order("n")]
    )
    assert isinstance(found, ArtifactRecord)
    return found


def order(name: str) -> NameOrder:
    act = Act(tenant="t", principal="ana", principal_tenant="t", action="name.set", request_id="r")
    return NameOrder(name=name, act=act)


def set_name(store: SqlMetadataStore, name: str, *target: object) -> object:
    return SqlRegistry(store).set_name("t", order(name), target)


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
        with store.database.engine.connect() as connection:
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

    sa.event.listen(store.database.engine, "commit", committed)
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
        set_name(store, "n", artifact.artifact_id, artifact.version)
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
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0)
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
    store.database.engine.dispose()
    for file in tmp_path.glob("metadata.db*"):
        file.unlink()

    assert not store.probe()
    with pytest.raises(RefusalError):
        store.find_ready("t", KEY)


def test_a_damaged_file_is_a_refusal(store: SqlMetadataStore, tmp_path: Path) -> None:
    """SQLite raises another error for it than for a full disk."""
    ready(store)
    store.database.engine.dispose()
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
    with pytest.raises(sa.exc.IntegrityError), store.writing("t") as connection:
        connection.execute(sa.text("INSERT INTO names VALUES ('t', 'n', NULL, 1, 1.0, NULL)"))
    ready(store)


def test_writers_stand_in_line(store: SqlMetadataStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's polling made some of sixteen writers wait a second; one that waits too long is refused."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)
    with store.writing("t"), ThreadPoolExecutor(1) as threads:
        late = threads.submit(begin, store)
        assert isinstance(late.exception(30), RefusalError)
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 30)
    waiting: list[int] = []
    seen: list[int] = []

    def counted(_connection: sa.Connection) -> None:
        waiting.append(1)
        seen.append(len(waiting))

    sa.event.listen(store.database.engine, "begin", counted, insert=True)  # before BEGIN IMMEDIATE
    sa.event.listen(store.database.engine, "commit", lambda _connection: waiting.pop())
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

        sa.event.listen(store.database.engine, "before_cursor_execute", fail)
        try:
            store.finish_build("t", "b1", facts=facts, row_count=1, arrow_schema="", names=[order("n")])
        except (RefusalError, sqlite3.OperationalError):
            failures += 1
        else:
            break
        finally:
            sa.event.remove(store.database.engine, "before_cursor_execute", fail)
        assert before == (store.get_build("t", "b1"), store.list_artifacts("t", limit=9, offset=0))
        assert None is store.get_name("t", "n")
    assert failures >= 6
    assert store.find_ready("t", KEY) is not None
    assert store.get_name("t", "n") is not None


def test_migrations_make_the_schema_the_code_uses(store: SqlMetadataStore) -> None:
    """A column or index that is only in the migrations or only in the schema fails here."""
    with store.database.engine.connect() as connection:
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
    with store.database.engine.connect() as connection:
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
        connection.execute("UPDATE schema_support SET oldest = '9998'")
        before = list(connection.iterdump())

    with pytest.raises(NewerDatabaseError, match=r"9999.*Upgrade Strata"):
        opened(tmp_path)
    with sqlite3.connect(tmp_path / "metadata.db") as connection:
        assert before == list(connection.iterdump())


def test_a_new_database_is_opened_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's busy timeout does not cover the switch to WAL, so concurrent opens could fail."""
    real, met = sqlite.use_wal, threading.Barrier(2)
    alone: list[bool] = []

    def watched(engine: sa.Engine) -> None:
        if not alone:
            with suppress(threading.BrokenBarrierError):
                met.wait(0.2)
            alone.append(met.broken)
        real(engine)

    monkeypatch.setattr(sqlite, "use_wal", watched)
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

    sa.event.listen(store.database.engine, "before_cursor_execute", note)
    question()
    sa.event.remove(store.database.engine, "before_cursor_execute", note)
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
    with store.database.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert 1 == len(plan), plan
    assert f"SEARCH {statement.split('FROM ')[1].split()[0]} USING INDEX {index} " in plan[0].detail


def test_beginning_a_build_scans_nothing(store: SqlMetadataStore) -> None:
    """The cost does not grow with the number of a tenant's builds."""
    ready(store)
    asked = statements(store, lambda: begin(store, "b2"))
    with store.database.engine.connect() as connection:
        plans = [
            row.detail
            for statement, parameters in asked
            if statement.startswith("SELECT")
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert len(plans) >= 3
    assert not [plan for plan in plans if plan.startswith("SCAN") and "anon" not in plan]
    assert any("builds_by_artifact" in plan for plan in plans)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_removed_or_replaced_is_noticed(
    store: SqlMetadataStore, tmp_path: Path, *, replaced: bool
) -> None:
    """No read or write succeeds on a file that has no name any more; put back, it serves again."""
    ready(store)
    path, aside = tmp_path / "metadata.db", tmp_path / "aside"
    path.rename(aside)
    if replaced:
        path.write_bytes(b"")
    assert not store.probe()
    for call in (partial(store.get_build, "t", "b1"), partial(set_name, store, "n", "a", 1)):
        with pytest.raises(RefusalError) as refused:
            call()
        assert STORE_DOWN == refused.value.refused
    aside.replace(path)
    assert store.probe()
    assert store.get_build("t", "b1") is not None


def test_the_secret_is_made_once_and_stays(tmp_path: Path) -> None:
    """Stores that open a new database at one moment, and later ones, share a secret; another database has its own."""
    path = tmp_path / "shared.db"
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: SqlMetadataStore(path, float), range(4)))
    found = {store.secret for store in opened}
    for store in opened:
        store.close()
    again, other = SqlMetadataStore(path, float), SqlMetadataStore(tmp_path / "other.db", float)
    assert found == {again.secret}
    assert other.secret not in found
    again.close()
    other.close()


ENDLESS = sa.text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")


def threads(seconds: float = 60.0) -> WaitingThreads:
    return WaitingThreads("metadata", 4, STORE_DOWN, 10.0, seconds)


async def test_a_read_that_its_caller_left_ends(store: SqlMetadataStore) -> None:
    """A statement that takes for ever is interrupted when its request is cancelled, and the store goes on."""
    group, began = threads(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def read() -> None:
        with store.reading() as connection:
            token.run_sync_soon(began.set)
            connection.execute(ENDLESS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.run, "a", read)
        await began.wait()
        nursery.cancel_scope.cancel()
    with trio.fail_after(30):
        while not group.idle:
            await trio.lowlevel.checkpoint()
    assert store.probe()


async def test_a_write_beyond_its_deadline_is_undone(store: SqlMetadataStore) -> None:
    """An interrupted transaction leaves nothing, and the next writer goes on."""

    def write() -> None:
        with store.writing("t") as connection:
            connection.execute(sa.text("INSERT INTO names VALUES ('a', 'n', 'x', 1, 0)"))
            connection.execute(ENDLESS)

    with pytest.raises(RefusalError) as raised:
        await threads(0.05).run("a", write, keep=True)
    assert STORE_DOWN == raised.value.refused
    assert () == store.list_names("a")
    ready(store)
    assert 1 == len(store.list_names("t"))


def filled(store: SqlMetadataStore, count: int) -> None:
    """Add finished results with a name each, made of the first one."""
    for index in range(count):
        store.begin_build(
            "t", build_id=f"b{index}", provenance_hash=f"{index:04}" * 16, query_hash="q" * 64,
            transform_spec="{}", input_versions=[("strata://artifact/first@v=1", "1")],
            executor_ref="join@v1", name=None,
        )  # fmt: skip
        facts, names = BlobFacts("a" * 64, index, Path("x")), [order(f"daily/{index:04}")]
        store.finish_build("t", f"b{index}", facts=facts, row_count=index, arrow_schema="", names=names)


def steps_of(path: Path, ask: Callable[[SqlMetadataStore], object]) -> int:
    """Return the steps of SQLite's virtual machine, in tens, that a call of the store takes."""
    counted = itertools.count()
    with closing(opened(path)) as store:
        sa.event.listen(
            store.database.engine,
            "checkout",
            lambda connection, *_: connection.set_progress_handler(lambda: next(counted) and 0, 10),
        )
        ask(store)
    return next(counted)


@pytest.fixture(scope="module")
def few_and_many(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return the directory of a store by the number of its results; the stores are only read."""
    found = {}
    for count in (60, 600):
        found[count] = tmp_path_factory.mktemp(f"of-{count}")
        with closing(opened(found[count])) as store:
            filled(store, count)
    return found


@pytest.mark.parametrize(
    "ask",
    [
        lambda store, at: store.list_names("t", after=f"daily/{at:04}", limit=10),
        lambda store, at: store.list_artifacts("t", name_prefix=f"daily/{at // 10:03}", limit=10, offset=0),
        lambda store, at: store.list_dependents(
            "t", "strata://artifact/first@v=1", after=place(store, at, "created_at"), limit=10
        ),
        lambda store, at: store.get_artifacts("t", versions(store, at)),
        lambda store, at: SqlRegistry(store).names_of("t", versions(store, at)),
        *(
            partial(
                lambda store, at, sort, order: store.list_summaries(
                    "t", sort=sort, order=order, after=place(store, at, sort), limit=10
                ),
                sort=sort,
                order=order,
            )
            for sort in SORTS
            for order in ORDERS
        ),
    ],
)
def test_a_page_takes_as_many_steps_however_many_results_there_are_and_wherever_it_is(
    few_and_many: dict[int, Path], ask: Callable[[SqlMetadataStore, int], object]
) -> None:
    """Every page of a listing is read in an index, from its own place on."""
    sizes = {
        count: [steps_of(directory, partial(ask, at=at)) for at in (20, count - 20)]
        for count, directory in few_and_many.items()
    }
    fewest = min(min(steps) for steps in sizes.values())
    assert fewest > 0
    assert max(max(steps) for steps in sizes.values()) < 3 * fewest + 20


def versions(store: SqlMetadataStore, at: int) -> list[tuple[str, int]]:
    """Return the keys of ten results."""
    found = [store.find_ready("t", f"{number:04}" * 16) for number in range(at, at + 10)]
    return [(one.artifact_id, one.version) for one in found if one is not None]


def place(store: SqlMetadataStore, at: int, sort: str) -> Cursor:
    found = store.find_ready("t", f"{at:04}" * 16)
    assert found is not None
    return Cursor(getattr(found, sort), found.artifact_id, found.version)


def test_statistics_and_totals_read_an_index_and_no_row(store: SqlMetadataStore) -> None:
    """A row holds a transform of up to a megabyte, which counting does not read."""
    filled(store, 5)
    plans = []

    def explained(
        connection: sa.Connection, _cursor: object, statement: str, given: tuple, *_: object
    ) -> None:
        if statement.startswith("SELECT"):
            raw = connection.connection.cursor()
            plans.append(" ".join(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", given)))

    sa.event.listen(store.database.engine, "before_cursor_execute", explained)
    store.stats("t")
    store.list_artifacts("t", limit=1, offset=0)
    totals = [plan for plan in plans if "ORDER" not in plan][:2]
    assert 2 == len(totals)
    assert all("COVERING INDEX" in plan for plan in totals)


def test_the_migration_finds_the_dependents_of_older_results(tmp_path: Path) -> None:
    """Results of a version without the table of inputs are found by it, in every order."""
    with closing(opened(tmp_path)) as store:
        filled(store, 3)
        expected = store.list_dependents("t", "strata://artifact/first@v=1", after=None, limit=9)
        config = Config()
        config.set_main_option("script_location", "strata.artifacts:migrations")
        with store.database.writer.begin() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "0004")
    with closing(opened(tmp_path)) as again:
        assert 3 == len(expected)
        assert expected == again.list_dependents("t", "strata://artifact/first@v=1", after=None, limit=9)
