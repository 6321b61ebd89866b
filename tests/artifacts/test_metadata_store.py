"""The metadata store: versions nobody shares, states that only go forward, tenants that never meet."""

import itertools
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from strata.artifacts import ArtifactRecord, ArtifactState, BlobFacts, SqlMetadataStore
from strata.artifacts.migrate import NewerDatabaseError
from strata.artifacts.tables import schema
from strata.outcomes import Reason, Refused

FACTS = BlobFacts("a" * 64, 10, Path("x"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlMetadataStore]:
    clock = itertools.count(1000)
    found = SqlMetadataStore(tmp_path / "metadata.db", lambda: float(next(clock)))
    yield found
    found.close()


def begin(
    store: SqlMetadataStore,
    build: str,
    key: str = "k",
    *,
    tenant: str = "t",
    name: str | None = None,
    query: str = "q",
    refresh: bool = True,
):
    return store.begin_build(
        tenant,
        build_id=build,
        provenance_hash=key * 64,
        query_hash=query * 64,
        transform_spec="{}",
        input_versions=[("uri", key)],
        executor_ref="scan@v1",
        name=name,
        refresh=refresh,
    )


def finish(store: SqlMetadataStore, build: str, tenant: str = "t") -> ArtifactRecord | Refused:
    return store.finish_build(tenant, build, facts=FACTS, row_count=3, arrow_schema="id: int64")


def test_a_build_becomes_a_ready_artifact(store: SqlMetadataStore) -> None:
    """With the facts of its blob."""
    record = begin(store, "b1")
    assert (1, ArtifactState.BUILDING) == (record.version, record.state)
    assert None is store.find_ready("t", "k" * 64)

    ready = finish(store, "b1")

    assert isinstance(ready, ArtifactRecord)
    assert (ArtifactState.READY, 3, 10, "a" * 64) == (
        ready.state,
        ready.row_count,
        ready.byte_size,
        ready.content_sha256,
    )
    assert ready == store.find_ready("t", "k" * 64) == store.get_artifact("t", ready.artifact_id, 1)
    assert ArtifactState.READY is store.get_build("t", "b1").state
    assert {"uri": "k"} == ready.inputs


def test_concurrent_refreshes_never_share_a_version(store: SqlMetadataStore) -> None:
    """They raced for one version number once."""
    with ThreadPoolExecutor(8) as threads:
        records = list(threads.map(lambda i: begin(store, f"b{i}"), range(40)))

    assert list(range(1, 41)) == sorted(record.version for record in records)
    assert 1 == len({record.artifact_id for record in records})


def test_the_newest_ready_version_is_found(store: SqlMetadataStore) -> None:
    """Not the newest begun."""
    for build in ("b1", "b2", "b3"):
        begin(store, build)
    finish(store, "b2")
    finish(store, "b1")

    assert 2 == store.find_ready("t", "k" * 64).version


def test_an_ended_build_stays_ended(store: SqlMetadataStore) -> None:
    """Ready after failed, failed after ready, ready twice: refused."""
    begin(store, "b1")
    begin(store, "b2")
    store.fail_build("t", "b1", code="x", message="why")
    finish(store, "b2")

    assert isinstance(finish(store, "b1"), Refused)
    assert isinstance(finish(store, "b2"), Refused)
    store.fail_build("t", "b2", code="y", message="late")
    assert ("x", "why") == ((failed := store.get_build("t", "b1")).error_code, failed.error_message)
    assert (ArtifactState.READY, None) == ((ready := store.get_build("t", "b2")).state, ready.error_code)
    assert isinstance(finish(store, "nope"), Refused)


def test_tenants_never_meet(store: SqlMetadataStore) -> None:
    """Equal provenance, equal names, equal build ids."""
    mine, theirs = begin(store, "b", name="n"), begin(store, "b", tenant="u", name="n")
    finish(store, "b")

    assert None is store.find_ready("u", "k" * 64)
    assert None is store.get_name("u", "n")
    assert ArtifactState.BUILDING is store.get_build("u", "b").state
    assert ArtifactState.BUILDING is store.get_artifact("u", theirs.artifact_id, 1).state
    assert (1, {"ready": 1}) == ((stats := store.stats("t")).total_artifacts, stats.by_state)
    assert 1 == store.list_artifacts("u", limit=9, offset=0).total
    assert None is store.get_artifact("v", mine.artifact_id, 1)
    store.fail_version("u", mine.artifact_id, 1, code="gone")
    assert store.find_ready("t", "k" * 64) is not None


def test_a_name_is_set_when_its_build_is_ready(store: SqlMetadataStore) -> None:
    """Not before, and never by a build that failed; names may contain slashes."""
    begin(store, "b1", name="a/b c")
    assert None is store.get_name("t", "a/b c")
    store.fail_build("t", "b1", code="x", message="")
    assert None is store.get_name("t", "a/b c")
    begin(store, "b2", name="a/b c")
    finish(store, "b2")
    assert 2 == store.get_name("t", "a/b c").version
    store.set_name("t", "a/b c", "other", 7)
    assert ("other", 7) == ((moved := store.get_name("t", "a/b c")).artifact_id, moved.version)
    assert ["a/b c"] == [name.name for name in store.list_names("t")]


def test_what_a_dead_process_left_building_is_failed(store: SqlMetadataStore) -> None:
    """Builds stayed in `building` after a crash, once."""
    begin(store, "b1")
    begin(store, "b2", key="l")
    finish(store, "b2")

    assert 1 == store.sweep_interrupted()

    build = store.get_build("t", "b1")
    assert (ArtifactState.FAILED, "interrupted") == (build.state, build.error_code)
    assert {"failed": 1, "ready": 1} == store.stats("t").by_state
    assert 0 == store.sweep_interrupted()


def test_a_version_whose_bytes_are_lost_is_found_no_more(store: SqlMetadataStore) -> None:
    """The one before it may serve."""
    for build in ("b1", "b2"):
        begin(store, build)
        finish(store, build)
    newest = store.find_ready("t", "k" * 64)
    store.fail_version("t", newest.artifact_id, newest.version, code="blob_missing")

    assert 1 == store.find_ready("t", "k" * 64).version


def test_the_latest_result_of_a_question_whatever_its_versions(store: SqlMetadataStore) -> None:
    """What explain compares with."""
    for build, key in (("b1", "k"), ("b2", "l"), ("b3", "m")):
        begin(store, build, key=key)
    finish(store, "b1")
    finish(store, "b2")

    assert "l" * 64 == store.find_latest_by_query("t", "q" * 64).provenance_hash
    assert None is store.find_latest_by_query("t", "r" * 64)


def test_listing_pages_sorts_and_filters(store: SqlMetadataStore) -> None:
    """Totals count what matches, not what is shown."""
    for index, key in enumerate("abcde"):
        begin(store, f"b{index}", key=key, name=f"n%{index}" if index % 2 else f"m{index}")
        finish(store, f"b{index}")
    begin(store, "b9", key="z")

    page = store.list_artifacts("t", limit=2, offset=1, order="asc", state="ready")
    assert (5, ["b", "c"]) == (page.total, [record.provenance_hash[0] for record in page.artifacts])
    newest = store.list_artifacts("t", limit=1, offset=0)
    assert "z" == newest.artifacts[0].provenance_hash[0]
    assert 2 == store.list_artifacts("t", limit=9, offset=0, name_prefix="n%").total
    assert 0 == store.list_artifacts("t", limit=9, offset=0, name_prefix="_").total
    since = newest.artifacts[0].created_at
    assert 1 == store.list_artifacts("t", limit=9, offset=0, since=since).total


@pytest.mark.parametrize("wrong", [{"sort": "tenant"}, {"order": "up"}, {"state": "gone"}])
def test_an_unknown_order_or_state_is_refused(store: SqlMetadataStore, wrong: dict) -> None:
    """Never ignored."""
    refused = store.list_artifacts("t", limit=1, offset=0, **wrong)

    assert isinstance(refused, Refused)
    assert Reason.BAD_REQUEST is refused.reason


def test_everything_is_there_after_a_restart(store: SqlMetadataStore, tmp_path: Path) -> None:
    """And opening twice at once is no error."""
    begin(store, "b1")
    finish(store, "b1")
    again = SqlMetadataStore(tmp_path / "metadata.db", lambda: 0.0)

    assert store.find_ready("t", "k" * 64) == again.find_ready("t", "k" * 64)
    assert again.probe()
    again.close()


def test_commits_are_synced(store: SqlMetadataStore) -> None:
    """WAL with synchronous=FULL: a ready artifact survives a power cut."""
    with store._engine.connect() as connection:
        assert "wal" == connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        assert 2 == connection.exec_driver_sql("PRAGMA synchronous").scalar()


def test_migrations_make_the_schema_the_code_uses(store: SqlMetadataStore) -> None:
    """A column added to one and not to the other fails here."""
    with store._engine.connect() as connection:
        assert [] == compare_metadata(MigrationContext.configure(connection), schema)


def test_a_newer_database_is_refused(store: SqlMetadataStore, tmp_path: Path) -> None:
    """With the way out, and untouched."""
    with sqlite3.connect(tmp_path / "metadata.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(NewerDatabaseError, match=r"9999.*Upgrade Strata"):
        SqlMetadataStore(tmp_path / "metadata.db", lambda: 0.0)


def test_the_hot_path_is_one_look_into_an_index(store: SqlMetadataStore) -> None:
    """No scan of the table, however many artifacts there are."""
    with store._engine.connect() as connection:
        plan = connection.execute(
            sa.text(
                "EXPLAIN QUERY PLAN SELECT * FROM artifacts WHERE tenant = 't' AND provenance_hash = 'k' "
                "AND state = 'ready' ORDER BY version DESC LIMIT 1"
            )
        ).all()
    assert "artifacts_by_provenance" in plan[0].detail
    assert 1 == len(plan), "no separate sort"
