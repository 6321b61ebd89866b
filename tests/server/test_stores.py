"""Opening the stores: exclusively, after a crash, and with a clear error."""

import os
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner
from postgres_kit import dsn, new_database

from strata.artifacts import BlobFacts, tenant_prefix
from strata.cli.main import main
from strata.config import Settings
from strata.server.stores import CannotOpenError, Stores, open_stores

KEY = "k" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(artifact_dir=str(tmp_path / "artifacts"), cache_dir=str(tmp_path / "cache"))


def begin(stores: Stores, build_id: str) -> None:
    stores.metadata.begin_build(
        "t", build_id=build_id, provenance_hash=KEY, query_hash=KEY, transform_spec="{}", input_versions=[("u", "1")],
        executor_ref="scan@v1", name=None, refresh=True,
    )  # fmt: skip


def test_what_a_killed_server_left_is_cleaned_up(settings: Settings) -> None:
    """Its builds are failed, its temporary files and unrecorded bytes removed, and its results kept."""
    prefix = tenant_prefix("t")
    with closing(open_stores(settings)) as stores:
        begin(stores, "done")
        writer = stores.blobs.begin(prefix)
        writer.append([b"bytes"])
        facts = writer.commit()
        stores.metadata.finish_build("t", "done", facts=facts, row_count=1, arrow_schema="")
        begin(stores, "half")
        stores.blobs.begin(prefix).append([b"half"])
        unrecorded = stores.blobs.begin(prefix)
        unrecorded.append([b"whole, and killed before its row was written"])
        unrecorded.commit()
    with closing(open_stores(settings)) as stores:
        assert "interrupted" == stores.metadata.get_build("t", "half").error_code
        assert 1 == stores.metadata.find_ready("t", KEY).version
        assert [facts.path] == [path for path in settings.artifact_root.glob("blobs/**/*") if path.is_file()]


@pytest.mark.slow
def test_unfinished_files_of_a_shared_directory_stay_while_they_may_be_written(
    settings: Settings, postgresql: str
) -> None:
    """A server that starts beside another one removes those of yesterday only; one that is alone removes all."""
    shared = attrs.evolve(settings, artifact_metadata_dsn=dsn(new_database(postgresql)))
    with closing(open_stores(shared)) as stores:
        old, new = stores.blobs.begin("p"), stores.blobs.begin("p")
        os.utime(old.path, (0, 0))
        with closing(open_stores(shared)):
            assert (False, True) == (old.path.exists(), new.path.exists())
        with pytest.raises(CannotOpenError, match="is in use by another server"):
            open_stores(settings)
    with closing(open_stores(shared)):
        assert not new.path.exists()


def open_files(settings: Settings) -> set[str]:
    """Return the files below the artifact directory that this process has open."""
    links = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor of the listing itself is closed by now
            links.add(str(link.readlink()))
    return {link for link in links if link.startswith(str(settings.artifact_root))}


def test_closed_stores_hold_no_file(settings: Settings) -> None:
    """Neither closed stores nor a failed attempt to open them leave a file open."""
    stores = open_stores(settings)
    stores.metadata.stats("t")
    assert {"server.lock", "metadata.db"} <= {Path(link).name for link in open_files(settings)}
    stores.close()
    assert set() == open_files(settings)
    with closing(sqlite3.connect(settings.artifact_root / "metadata.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.execute("UPDATE schema_support SET oldest = '9999'")
    with pytest.raises(CannotOpenError):
        open_stores(settings)
    assert set() == open_files(settings)


def test_a_second_server_on_one_directory_is_refused(settings: Settings) -> None:
    """It would fail the first one's builds; once the first has stopped, it is admitted."""
    with closing(open_stores(settings)) as stores:
        begin(stores, "mine")
        writer = stores.blobs.begin("p")
        with pytest.raises(CannotOpenError, match=r"artifact_dir: .*artifacts is in use by another server"):
            open_stores(settings)
        writer.append([b"bytes"])
        facts = BlobFacts(writer.commit().sha256, 5, writer.path)
        stores.metadata.finish_build("t", "mine", facts=facts, row_count=1, arrow_schema="")
        assert "ready" == stores.metadata.get_build("t", "mine").state.value
    open_stores(settings).close()


def test_stores_that_cannot_be_opened_leave_the_directory_to_others(settings: Settings) -> None:
    """A failed start releases the directory's lock."""
    root = settings.artifact_root
    root.mkdir()
    (root / "metadata.db").write_text(
        "this is no database, and long enough to be told from an empty one" * 20
    )
    for _ in range(2):
        with pytest.raises(CannotOpenError, match=r"metadata.db cannot be opened as a metadata database"):
            open_stores(settings)
    (root / "metadata.db").unlink()
    open_stores(settings).close()


def test_the_directory_of_the_metadata_database_is_made(settings: Settings, tmp_path: Path) -> None:
    """It is created like the directory of the artifacts."""
    database = tmp_path / "new" / "place" / "m.db"
    open_stores(attrs.evolve(settings, metadata_db=str(database))).close()

    assert database.exists()


def test_a_missing_extra_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command that installs the extra."""
    monkeypatch.setitem(sys.modules, "obstore.store", None)

    with pytest.raises(CannotOpenError, match=r"pip install 'strata\[objectstore\]'"):
        open_stores(attrs.evolve(settings, artifact_blob_backend="s3", artifact_s3_bucket="b"))


def newer(settings: Settings) -> None:
    open_stores(settings).close()
    with closing(sqlite3.connect(settings.artifact_root / "metadata.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.execute("UPDATE schema_support SET oldest = '9999'")


def unwritable(settings: Settings) -> None:
    """Make a directory in the lock file's place, which even root cannot write to."""
    (settings.artifact_root / "server.lock").mkdir(parents=True)


@pytest.mark.parametrize(
    ("prepare", "says"),
    [(newer, "revision 9999, which this version of Strata does not know"), (unwritable, "server.lock: Is a directory")],
)  # fmt: skip
def test_strata_serve_says_why_it_cannot_start(
    prepare, says: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prints one sentence without a traceback and exits with 1."""
    prepare(settings)
    monkeypatch.chdir(tmp_path)
    options = ["--artifact-dir", str(settings.artifact_dir), "--cache-dir", str(settings.cache_dir)]
    found = CliRunner().invoke(main, ["serve", *options])

    assert (1, SystemExit) == (found.exit_code, type(found.exception))
    assert says in found.output
    assert "Traceback" not in found.output


def modes(path: Path) -> dict[str, int]:
    """Return the permissions of a directory and of the database's files in it."""
    found = {file.name: file.stat().st_mode & 0o777 for file in path.glob("metadata.db*")}
    return found | {".": path.stat().st_mode & 0o777}


@pytest.mark.parametrize("before", [None, 0o644, 0o666])
def test_only_the_owner_reads_what_the_server_stores(settings: Settings, before: int | None) -> None:
    """The database, its log and new directories are private, whatever the umask; an old database becomes so."""
    umask = os.umask(0)
    try:
        if before is not None:
            with closing(open_stores(settings)) as stores:
                stores.metadata.stats("t")
            (settings.artifact_root / "metadata.db").chmod(before)
        with closing(open_stores(settings)) as stores:
            begin(stores, "one")
            found = modes(settings.artifact_root)
            cache = Path(settings.cache_dir).stat().st_mode & 0o777
    finally:
        os.umask(umask)

    assert {"metadata.db", "metadata.db-wal", "metadata.db-shm", "."} <= found.keys()
    assert 0o700 == found.pop(".") == cache
    assert {0o600} == set(found.values())


def test_a_directory_of_the_operators_keeps_its_permissions(settings: Settings) -> None:
    """A group that may read it, a backup for example, was meant to."""
    settings.artifact_root.mkdir(mode=0o750)
    settings.artifact_root.chmod(0o750)
    with closing(open_stores(settings)):
        assert 0o750 == modes(settings.artifact_root)["."]
