"""A copy of all of a tenant's results into another store: complete, verified, and killed on the way."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from fake_bucket import fake_bucket
from postgres_kit import dsn, new_database
from store_kit import act, add, content, data_of, fill, service, side_of

from strata.artifacts import NameOrder, tenant_prefix
from strata.artifacts.database.schema import (
    artifacts,
    audit,
    names,
    pins,
)
from strata.artifacts.moving.copying import Copied, Copy, Side
from strata.artifacts.registry.sql_registry import SqlRegistry
from strata.cli.main import main
from strata.config import Settings
from strata.outcomes import RefusalError
from strata.server.stores import opened_side


def copy_of(source: Side, target: Side, **more: object) -> Copied:
    return Copy(source=source, target=target, principal="ana", **more).run()  # type: ignore[arg-type]  # its own


def test_a_copy_is_equal_and_the_source_stays(tmp_path: Path) -> None:
    """Results, names, aliases, tags, pins, lineage and sums; other tenants of the target get nothing."""
    source, target = side_of(tmp_path / "a"), side_of(tmp_path / "b", "team-a")
    fill(source, 30)
    before = content(source)
    copied = copy_of(source, target)

    assert before == content(source) == content(target)
    assert (31, 31, 0, 20, 20, []) == (
        copied.total, copied.copied, copied.present, copied.names, copied.aliases, copied.problems,
    )  # fmt: skip
    with target.store.reading() as connection:
        assert {"team-a"} == set(connection.scalars(sa.select(artifacts.c.tenant)))
        owners = {"ana"}
        assert owners == set(connection.scalars(sa.select(names.c.owner)))
        assert owners == set(connection.scalars(sa.select(pins.c.pinned_by)))
        acts = connection.execute(sa.select(audit.c.action, sa.func.count()).group_by(audit.c.action))
        assert {"artifact.put": 31, "name.set": 20, "alias.set": 20} == dict(map(tuple, acts))
        assert {("team-a", "ana")} == {
            tuple(row) for row in connection.execute(sa.select(audit.c.tenant, audit.c.principal))
        }
    assert [tenant_prefix("team-a")] == [
        path.name for path in (tmp_path / "b" / "blobs").iterdir() if path.name != "growing"
    ]


def test_a_second_copy_verifies_and_changes_nothing(tmp_path: Path) -> None:
    """No second audit record; a damaged or lost blob of the target is copied again."""
    source, target = side_of(tmp_path / "a"), side_of(tmp_path / "b", "team-a")
    fill(source, 30)
    copy_of(source, target)
    with target.store.reading() as connection:
        noted = connection.scalar(sa.select(sa.func.count()).select_from(audit))
    damaged, lost, *_ = sorted((tmp_path / "b" / "blobs").rglob("*.arrow"))
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    lost.unlink()
    copied = copy_of(source, target)

    assert (0, 31, []) == (copied.copied, copied.present, copied.problems)
    assert content(source) == content(target)
    with target.store.reading() as connection:
        assert noted == connection.scalar(sa.select(sa.func.count()).select_from(audit))


def test_what_is_damaged_or_taken_is_told_and_the_rest_is_copied(tmp_path: Path) -> None:
    """Damaged bytes never arrive; nothing of the target is overwritten."""
    source, target = side_of(tmp_path / "a"), side_of(tmp_path / "b", "team-a")
    versions = fill(source, 30)
    digest = hashlib.sha256(data_of(3)).hexdigest()
    [blob] = (tmp_path / "a").rglob(f"{digest}.arrow")
    blob.write_bytes(b"x" * blob.stat().st_size)
    [gone] = (tmp_path / "a").rglob(f"{hashlib.sha256(data_of(4)).hexdigest()}.arrow")
    gone.unlink()
    mine = add(target, 900)
    SqlRegistry(target.store).set_name("team-a", NameOrder(name="daily/7", act=act(tenant="team-a")), mine)
    copied = copy_of(source, target)

    three, four = (f"{versions[number][0]}@v=1" for number in (3, 4))
    assert sorted(
        [
            f"{three}: its bytes in the source are damaged: they do not have their hash.",
            f"{four}: The stored result cannot be read.",
            "name daily/3: its result was not copied.",
            "name daily/4: its result was not copied.",
            "alias daily/3@production: its result was not copied.",
            "alias daily/4@production: its result was not copied.",
            "name daily/7: it points at another result in the target, and stays.",
        ]
    ) == sorted(copied.problems)
    assert 29 == copied.copied
    assert mine == (target.store.get_name("team-a", "daily/7").artifact_id, 1)  # type: ignore[union-attr]
    assert not list((tmp_path / "b").rglob(f"{digest}.arrow"))
    assert not list((tmp_path / "b").rglob("*.part"))


def test_names_can_get_a_prefix(tmp_path: Path) -> None:
    """Two people's stores go into one tenant."""
    source, target = side_of(tmp_path / "a"), side_of(tmp_path / "b", "team-a")
    fill(source, 3)
    copied = copy_of(source, target, name_prefix="ana/")

    assert [] == copied.problems
    assert {"ana/daily/0", "ana/daily/1", "ana/daily/2", "ana/daily/3"} == {
        one.name for one in target.store.list_names("team-a")
    }


def test_a_copied_result_answers_no_request_to_build(tmp_path: Path) -> None:
    """It has the identity of its own store, whose secret differs; so nobody's claim becomes a hit."""
    source, target = side_of(tmp_path / "a"), side_of(tmp_path / "b", "team-a")
    fill(source, 3)
    copy_of(source, target)

    assert source.store.secret != target.store.secret


def test_a_target_that_is_down_ends_the_copy_and_the_next_goes_on(tmp_path: Path) -> None:
    """With a bucket: what it took stays, and is not sent again."""
    source = side_of(tmp_path / "a")
    fill(source, 30)
    with fake_bucket() as bucket:
        settings = Settings(
            artifact_dir=str(tmp_path / "b"), artifact_blob_backend="s3", artifact_s3_bucket="bucket",
            s3_endpoint_url=bucket.address, s3_access_key="k", s3_secret_key="s", s3_request_timeout_seconds=1,
        )  # fmt: skip
        with opened_side(settings, "team-a") as target:
            bucket.fault = lambda method, _key: "503" if method == "PUT" and len(bucket.objects) == 9 else ""
            with pytest.raises(RefusalError):
                copy_of(source, target)
            bucket.fault = lambda _method, _key: ""
            bucket.asked.clear()
            copied = copy_of(source, target)
            assert (9, 22) == (copied.present, copied.copied)
            assert 22 == len([method for method, _key in bucket.asked if method == "PUT"])
            assert content(source) == content(target)
        assert 31 == len(bucket.objects)


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one: what a killed process has written survives it there, too."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as place:
        yield Path(place)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "count"), [("local", 1000), ("bucket and PostgreSQL", 200)])
def test_a_migration_that_is_killed_three_times_ends_equal(
    in_memory: Path, place: str, count: int, request: pytest.FixtureRequest
) -> None:
    """1,000 results by the command, ended by SIGKILL after a quarter, half and three quarters; fewer remotely."""
    personal = in_memory / "personal"
    source = side_of(personal)
    fill(source, count - 1)
    before = content(source)
    source.store.close()
    with ExitStack() as held:
        given = service(in_memory)
        if place != "local":
            bucket = held.enter_context(fake_bucket())
            del given["STRATA_ARTIFACT_DIR"]
            given |= {
                "STRATA_ARTIFACT_BLOB_BACKEND": "s3", "STRATA_ARTIFACT_S3_BUCKET": "bucket",
                "STRATA_S3_ENDPOINT_URL": bucket.address, "STRATA_S3_ACCESS_KEY": "k", "STRATA_S3_SECRET_KEY": "s",
                "STRATA_ARTIFACT_METADATA_DSN": dsn(new_database(request.getfixturevalue("postgresql"))),
                "TMPDIR": str(in_memory),
            }  # fmt: skip
        command = [
            sys.executable, "-m", "strata", "migrate-to-service", str(personal), "--tenant", "team-a",
            "--owner", "ana@example.com",
        ]  # fmt: skip
        environ = {key: value for key, value in os.environ.items() if not key.startswith("STRATA_")} | given
        for until in (count // 4, count // 2, count * 3 // 4):
            process = subprocess.Popen(
                command, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith(f"{until} of {count} results"):
                    process.send_signal(signal.SIGKILL)
            _, rest = process.communicate(timeout=60)
            assert -signal.SIGKILL == process.returncode, rest
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
        assert 0 == done.returncode, done.stderr
        assert f"{count} of {count} results" in done.stderr
        assert "20 names, 20 aliases" in done.stdout

        settings = attrs.evolve(
            Settings(artifact_dir=given.get("STRATA_ARTIFACT_DIR")),
            **{
                name: given[variable]
                for name in ("artifact_blob_backend", "artifact_s3_bucket", "s3_endpoint_url", "s3_access_key",
                             "s3_secret_key", "artifact_metadata_dsn")
                if (variable := f"STRATA_{name.upper()}") in given
            },
        )  # fmt: skip
        with opened_side(settings, "team-a") as target:
            assert before == content(target)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    """No store, no tenant, a wrong one, a server that runs: one sentence each, and nothing is made."""
    personal = tmp_path / "personal"
    source = side_of(personal)
    fill(source, 3)
    source.store.close()
    environ, owner = service(tmp_path), ["--owner", "ana"]
    (tmp_path / "empty").mkdir()

    def told(*arguments: object, **more: str) -> str:
        found = CliRunner().invoke(main, ["migrate-to-service", *map(str, arguments)], env=environ | more)
        assert found.exit_code, found.output
        assert "Traceback" not in found.output
        return found.output

    assert "is not the artifact_dir of a store" in told(tmp_path / "empty", "--tenant", "a", *owner)
    assert "the service has tenants; name one" in told(personal, *owner)
    assert "'../x' is no tenant's id" in told(personal, "--tenant", "../x", *owner)
    assert "has no tenants" in told(personal, "--tenant", "a", *owner, STRATA_MULTI_TENANT_ENABLED="false")
    assert "--owner: use at most 256" in told(personal, "--tenant", "a", "--owner", "a\nb")
    with opened_side(Settings(artifact_dir=str(personal)), None):
        assert "is in use by another server" in told(personal, "--tenant", "a", *owner)

    found = CliRunner().invoke(
        main, ["migrate-to-service", str(personal), "--tenant", "a", *owner, "--json"], env=environ
    )
    assert 0 == found.exit_code, found.output
    assert 4 == json.loads(found.stdout)["copied"]
