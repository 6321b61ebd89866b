"""Metadata in PostgreSQL: migrated as told, never stuck, and without a password in any text."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import sqlalchemy as sa
import structlog
import trio
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres_kit import at_revision, dsn, new_database, new_store, postgres, restart

from strata.artifacts import STORE_DOWN, NewerDatabaseError, SqlMetadataStore
from strata.artifacts.database import postgres as module
from strata.artifacts.database.migrate import OlderDatabaseError, schema_state, upgrade
from strata.artifacts.database.postgres import PostgresDatabase
from strata.artifacts.database.schema import schema
from strata.outcomes import RefusalError
from strata.postgres_address import parse_dsn
from strata.work.waiting_threads import Interrupt, WaitingThreads

pytestmark = pytest.mark.slow

PASSWORD = "a-secret-of-the-database"


@pytest.fixture
def store(postgresql: str) -> Iterator[SqlMetadataStore]:
    with closing(new_store(postgresql, float)) as found:
        yield found


def database_at(url: str, connections: int = 4) -> PostgresDatabase:
    return PostgresDatabase(parse_dsn(dsn(url)), connections)


def begin(store: SqlMetadataStore, build_id: str, tenant: str = "t") -> None:
    store.begin_build(
        tenant, build_id=build_id, provenance_hash="k" * 64, query_hash="q" * 64, transform_spec="{}",
        input_versions=[("uri", "1")], executor_ref="scan@v1", name=None, refresh=True,
    )  # fmt: skip


def test_migrations_make_the_schema_the_code_uses(store: SqlMetadataStore) -> None:
    """On PostgreSQL, too; two indexes have unknown values first there, which SQLite's always have."""
    with store.database.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), schema)
    assert [] == [one for one in found if one[1].name not in ("artifacts_by_rows", "artifacts_by_bytes")]


def test_texts_are_ordered_by_code_points(store: SqlMetadataStore) -> None:
    """No column of text has the locale of the database: pages and prefixes would be other ones on each server."""
    with store.database.engine.connect() as connection:
        query = sa.text(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
            "AND data_type = 'character varying' AND collation_name IS DISTINCT FROM 'C'"
        )
        assert [("alembic_version", "version_num")] == [tuple(row) for row in connection.execute(query)]


def test_servers_that_open_an_empty_database_together_share_its_secret(postgresql: str) -> None:
    """One of them makes the tables; the others wait for it."""
    url = new_database(postgresql)
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: SqlMetadataStore(database_at(url), float), range(4)))
    assert 1 == len({store.secret for store in stores})
    for store in stores:
        store.close()


def test_an_older_database_is_migrated_by_the_command_only(postgresql: str) -> None:
    """A server refuses it and names the command; rows stay."""
    url = new_database(postgresql)
    at_revision(url, "0009")
    with closing(database_at(url)) as database:
        with database.writing("t") as connection:
            connection.execute(sa.text("INSERT INTO names VALUES ('t', 'n', 'a', 1, 5.0, 'ana')"))
        with pytest.raises(OlderDatabaseError, match=r"revision 0009.*strata migrate"):
            database.open()
        assert "0009" == upgrade(database.engine).current
        database.open()
        with database.reading() as connection:
            assert schema_state(connection).is_current
            assert ["n"] == list(connection.scalars(sa.text("SELECT name FROM names")))


def test_a_newer_database_is_used_while_it_only_adds(store: SqlMetadataStore) -> None:
    """Expand first: servers of two versions run side by side. One that removed something is refused."""
    with store.database.writing(None) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9998'"))
    assert store.secret == store.database.open()
    with store.database.writing(None) as connection:
        connection.execute(sa.text("UPDATE schema_support SET oldest = '9997'"))
    with pytest.raises(NewerDatabaseError, match=r"9998.*Upgrade Strata"):
        store.database.open()


def test_no_text_has_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the address, not an error, not the log."""
    address = parse_dsn(f"postgresql://owner:{PASSWORD}@127.0.0.1:1/db")
    monkeypatch.setattr(
        module.psycopg,
        "connect",
        lambda **given: (_ for _ in ()).throw(module.psycopg.OperationalError(str(given))),
    )
    with structlog.testing.capture_logs() as lines, pytest.raises(RefusalError) as refused:
        PostgresDatabase(address, 2).open()
    assert STORE_DOWN is refused.value.refused
    assert "(redacted)" in lines[0]["cause"]
    for text in (str(address), repr(address), str(lines), str(refused.value)):
        assert PASSWORD not in text
    assert "postgresql://owner@127.0.0.1:1/db" == str(address)


def test_a_database_that_restarts_ends_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that meets the broken connection is refused; the next ones have new connections."""
    with postgres() as server, closing(new_store(server, float, 8)) as store:
        everyone = threading.Barrier(4)

        def ask(_: int) -> None:
            with store.reading() as connection:
                everyone.wait(10)  # four connections at once
                connection.execute(sa.text("SELECT 1"))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(ask, range(4)))
        restart(server)
        with pytest.raises(RefusalError) as refused:
            begin(store, "b1")
        assert STORE_DOWN is refused.value.refused
        begin(store, "b2")
        assert store.get_build("t", "b1") is None
        assert store.probe() or store.probe()


def test_a_tenants_writer_delays_no_other_tenant(store: SqlMetadataStore) -> None:
    """Nor do the writers that wait for it take all connections."""
    with ThreadPoolExecutor(20) as threads:
        with store.writing("a"):
            waiting = [threads.submit(begin, store, f"a{index}", "a") for index in range(17)]
            threads.submit(begin, store, "b", "b").result(10)
            assert not any(one.done() for one in waiting)
        assert [None] * 17 == [one.result() for one in waiting]


def test_the_locks_of_a_frozen_server_do_not_stay(postgresql: str) -> None:
    """PostgreSQL ends a transaction in which nothing happens; its writer is refused, and has changed nothing."""
    frozen = new_store(postgresql, float)
    other = SqlMetadataStore(PostgresDatabase(frozen.database._address, 2), float)

    def freeze() -> None:
        with frozen.writing("t") as connection:
            connection.execute(sa.text("INSERT INTO names VALUES ('t', 'n', 'a', 1, 5.0, 'ana')"))
            assert "15s" == connection.scalar(sa.text("SHOW idle_in_transaction_session_timeout"))
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = '1s'"))
            begin(other, "b1")  # waits for the lock of `frozen`
            connection.execute(sa.text("SELECT 1"))

    with closing(frozen), closing(other):
        with pytest.raises(RefusalError) as refused:
            freeze()
        assert STORE_DOWN is refused.value.refused
        assert other.get_build("t", "b1") is not None
        assert other.get_name("t", "n") is None


def threads(seconds: float = 60.0) -> WaitingThreads:
    return WaitingThreads("metadata", 4, STORE_DOWN, 10.0, seconds)


async def test_a_read_that_its_caller_left_ends(store: SqlMetadataStore) -> None:
    """At once, and the other connections of the pool stay."""
    group, began = threads(), trio.Event()
    token = trio.lowlevel.current_trio_token()
    begin(store, "b1")
    with store.reading() as connection:
        other = connection.scalar(sa.text("SELECT pg_backend_pid()"))

        def read() -> None:
            with store.reading() as connection:
                token.run_sync_soon(began.set)
                connection.execute(sa.text("SELECT pg_sleep(600)"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(group.run, "a", read)
            await began.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(30):
            while not group.idle:
                await trio.lowlevel.checkpoint()
    with store.reading() as connection:
        assert other == connection.scalar(sa.text("SELECT pg_backend_pid()"))


@pytest.mark.parametrize("statements", [0, 1])
def test_an_interrupted_connection_is_not_used_again(
    postgresql: str, statements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where the interrupt comes before the first statement, nor after the last one."""
    with closing(new_store(postgresql, float, 1)) as store:
        interrupt = Interrupt()

        def write() -> None:
            with store.writing(None) as connection:
                for _ in range(statements):
                    connection.execute(sa.text("INSERT INTO names VALUES ('a', 'n', 'x', 1, 0)"))
                interrupt.request()

        with monkeypatch.context() as patched:
            patched.setattr(module, "current_interrupt", lambda: interrupt)
            with pytest.raises(RefusalError):
                write()
        assert () == store.list_names("a")
        begin(store, "b1", "a")
        assert store.get_build("a", "b1") is not None


async def test_a_write_beyond_its_deadline_is_undone(store: SqlMetadataStore) -> None:
    """An interrupted transaction leaves nothing, and the tenant's next writer goes on."""

    def write() -> None:
        with store.writing("a") as connection:
            connection.execute(sa.text("INSERT INTO names VALUES ('a', 'n', 'x', 1, 0)"))
            connection.execute(sa.text("SELECT pg_sleep(600)"))

    with pytest.raises(RefusalError) as raised:
        await threads(0.05).run("a", write, keep=True)
    assert STORE_DOWN == raised.value.refused
    begin(store, "b1", "a")
    assert () == store.list_names("a")
