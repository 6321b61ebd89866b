"""Everything of one tenant is removed, and nothing of another."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from postgres_kit import dsn, new_database
from store_kit import act, add, content, fill, service, side_of

from strata.artifacts import NameOrder, tenant_prefix
from strata.artifacts.blobs.store import LocalBlobStore
from strata.artifacts.database.schema import audit, notebook_results, notebooks, schema
from strata.artifacts.moving.copying import Side
from strata.artifacts.moving.removing import Removal, kept_of, remove_tenant
from strata.artifacts.registry.sql_registry import SqlRegistry
from strata.cli.main import main
from strata.config import Settings
from strata.server.stores import open_stores
from strata.tenants.notebooks.bundles import notebook_prefix


def other(side: Side, tenant: str) -> Side:
    return Side(side.store, side.blobs, tenant)


def add_notebook(side: Side, name: str, data: bytes) -> None:
    """Add a notebook with the stored bundle of a run."""
    writer = side.blobs.begin(notebook_prefix(side.tenant, name))
    writer.append([data])
    facts = writer.commit()
    with side.store.writing(side.tenant) as connection:
        connection.execute(
            notebooks.insert().values(
                tenant=side.tenant, name=name, title=name, owner="ana", access="private", revision=1,
                created_at=1.0, updated_at=1.0, nbytes=1,
            )
        )  # fmt: skip
        connection.execute(
            notebook_results.insert().values(
                tenant=side.tenant, name=name, cell="c", seq=1, at=1.0, sha256=facts.sha256, byte_size=len(data),
                record="{}",
            )
        )  # fmt: skip


def remove(side: Side) -> Removal:
    return remove_tenant(side, principal="root", notebook_prefix=notebook_prefix)


def rows_of(side: Side, tenant: str) -> dict[str, int]:
    return kept_of(other(side, tenant)).rows


def files(root: Path) -> list[Path]:
    return sorted(path for path in (root / "blobs").rglob("*") if path.is_file())


def test_all_of_a_tenant_goes_and_all_of_another_stays(tmp_path: Path) -> None:
    """Every table with a tenant, results, notebooks' bundles; one audit record of no tenant says what."""
    side = side_of(tmp_path, "team-a")
    neighbour = other(side, "team-a2")
    fill(side, 30)
    fill(neighbour, 30)
    add_notebook(side, "n", b"bundle")
    add_notebook(neighbour, "n", b"bundle")
    before, rows = content(neighbour), rows_of(side, "team-a2")
    assert {"artifacts", "names", "aliases", "tags", "pins", "audit", "notebooks"} <= set(rows)
    told, removed = kept_of(side), remove(side)

    assert rows == told.rows == removed.rows
    assert (told.blobs + 1, told.nbytes + 6) == (removed.blobs, removed.nbytes)
    assert {} == rows_of(side, "team-a")
    assert before == content(neighbour)
    assert rows == rows_of(side, "team-a2")
    assert {tenant_prefix("team-a2"), notebook_prefix("team-a2", "n")} == {
        path.parts[-3] for path in files(tmp_path)
    }
    with side.store.reading() as connection:
        [noted] = connection.execute(sa.select(audit).where(audit.c.tenant.is_(None)))
    assert ("root", "tenant.remove", "team-a") == (
        noted.principal,
        noted.action,
        json.loads(noted.old)["tenant"],
    )
    assert Removal(rows={}) == remove(side)


def test_every_table_is_thought_of() -> None:
    """A table of a later version has a tenant, or nothing of one that lasts.

    A report of usage names tenants, for the seconds until its server's next one or its end.
    """
    without = {table.name for table in schema.sorted_tables if "tenant" not in table.c}
    assert {"schema_support", "store_secrets", "servers", "usage_reports", "notebook_workers"} >= without


@pytest.mark.parametrize("after", range(0, 36, 5))
def test_a_removal_that_is_cut_off_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The database or a file fails after some steps; in sum the same is removed."""
    side = side_of(tmp_path, "team-a")
    fill(side, 20)
    add_notebook(side, "n", b"bundle")
    add(other(side, "team-b"), 7)
    wanted = kept_of(side).rows
    steps = iter(range(after))
    real_writing, real_unlink = side.store.writing, Path.unlink

    def step() -> None:
        if next(steps, None) is None:
            raise OSError("cut off")

    def writing(*arguments: object, **more: object) -> object:
        step()
        return real_writing(*arguments, **more)  # type: ignore[arg-type]  # as it was called

    def unlink(path: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002  # as Path has it
        if path.suffix == ".arrow":
            step()
        real_unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(side.store, "writing", writing)
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(OSError, match="cut off"):
            remove(side)
    left = kept_of(side).rows
    removed = remove(side)

    assert left == removed.rows
    assert set(left) <= set(wanted)
    assert {} == rows_of(side, "team-a")
    assert [tenant_prefix("team-b")] == [path.parts[-3] for path in files(tmp_path)]


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    """The underscore of an id is SQL's sign for any character."""
    side = side_of(tmp_path, "team_a")
    for tenant in ("team_a", "teamXa", "team_a_"):
        one = other(side, tenant)
        version = add(one, 1)
        SqlRegistry(side.store).set_name(tenant, NameOrder(name="n", act=act(tenant=tenant)), version)
    remove(side)

    assert {} == rows_of(side, "team_a")
    assert all(rows_of(side, tenant)["names"] == 1 for tenant in ("teamXa", "team_a_"))


def test_the_command_asks_says_and_removes(tmp_path: Path) -> None:
    """Without consent, and with `--dry-run`, nothing goes; the cache of the tenant goes, and no other."""
    root = tmp_path / "service"
    side = side_of(root, "team-a")
    fill(side, 3)
    add(other(side, "team-b"), 7)
    side.store.close()
    shards = [tmp_path / "cache" / tenant_prefix(tenant) for tenant in ("team-a", "team-b")]
    for shard in shards:
        shard.mkdir(parents=True)
        (shard / "pack").write_bytes(b"rows")

    def run(*arguments: str, answer: str | None = None) -> tuple[int, str]:
        found = CliRunner().invoke(
            main, ["tenants", "remove", *arguments], env=service(tmp_path), input=answer
        )
        assert "Traceback" not in found.output
        return found.exit_code, found.output

    assert 2 == run("../x", "--yes")[0]
    code, text = run("team-a", answer="n\n")
    assert (1, True) == (code, "for good?" in text)
    code, text = run("team-a", "--dry-run")
    assert (0, True) == (code, "would be removed: 4 stored files" in text), text
    assert 5 == len(files(root))
    code, text = run("team-a", "--yes", "--json")
    assert 0 == code, text
    assert 4 == json.loads(text)["rows"]["artifacts"]
    assert 1 == len(files(root))
    assert [False, True] == [shard.exists() for shard in shards]
    code, text = run("team-a", "--yes")
    assert (0, True) == (code, "has nothing of team-a" in text)


def test_a_removal_that_is_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    """By SIGKILL in the middle of its files."""
    root = tmp_path / "service"
    side = side_of(root, "team-a")
    fill(side, 20)
    side.store.close()
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "real, count = Path.unlink, 0\n"
        "def unlink(path, missing_ok=False):\n"
        "    global count\n"
        "    count += path.suffix == '.arrow'\n"
        "    if count > 10: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(path, missing_ok=missing_ok)\n"
        "Path.unlink = unlink\n"
        "from strata.cli.main import main\n"
        "main(['tenants', 'remove', 'team-a', '--yes'])"
    )
    environ = {name: text for name, text in os.environ.items() if not name.startswith("STRATA_")}
    killed = subprocess.run(
        [sys.executable, "-c", code], env=environ | service(tmp_path), check=False, timeout=60
    )
    assert -signal.SIGKILL == killed.returncode
    assert 11 == len(files(root))
    found = CliRunner().invoke(main, ["tenants", "remove", "team-a", "--yes"], env=service(tmp_path))

    assert 0 == found.exit_code, found.output
    assert "removed: 11 stored files" in found.output
    assert [] == files(root)
    assert isinstance(side.blobs, LocalBlobStore)


@pytest.mark.slow
def test_a_tenant_is_not_removed_beside_a_server(tmp_path: Path, postgresql: str) -> None:
    """With a database server: while another server has a lease, which the error names."""
    address = dsn(new_database(postgresql))
    settings = Settings(
        artifact_metadata_dsn=address, artifact_dir=str(tmp_path / "a"), cache_dir=str(tmp_path / "c")
    )
    (tmp_path / "b").mkdir()  # of the command: the directory does not tell it of the server
    values = {"METADATA_DSN": address, "DIR": str(tmp_path / "b")}
    variables = {f"STRATA_ARTIFACT_{name}": value for name, value in values.items()}
    command = ["tenants", "remove", "team-a", "--yes"]
    with closing(open_stores(settings)):
        refused = CliRunner().invoke(main, command, env=variables)
    assert 1 == refused.exit_code
    assert "servers use the database: " in refused.output
    assert "artifact_lease_seconds" in refused.output
    done = CliRunner().invoke(main, command, env=variables)
    assert (0, "the store has nothing of team-a\n") == (done.exit_code, done.output), done.output
