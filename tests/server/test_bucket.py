"""``strata check`` of an object store, and servers without a directory of their own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner
from fake_bucket import NO_OAUTH, FakeBucket, fake_bucket

from strata.cli.main import main
from strata.config import Settings
from strata.server.scratch import PREFIX, scratch_directory
from strata.server.stores import CannotOpenError, open_stores

SECRET = "HIDDEN"


@pytest.fixture
def bucket() -> Iterator[FakeBucket]:
    with fake_bucket() as there:
        yield there


@pytest.fixture
def environ(bucket: FakeBucket, tmp_path: Path) -> dict[str, str]:
    return {
        "STRATA_ARTIFACT_DIR": str(tmp_path / "artifacts"),
        "STRATA_CACHE_DIR": str(tmp_path / "cache"),
        "STRATA_ARTIFACT_BLOB_BACKEND": "s3",
        "STRATA_ARTIFACT_S3_BUCKET": "bucket",
        "STRATA_S3_ENDPOINT_URL": bucket.address,
        "STRATA_S3_ACCESS_KEY": SECRET,
        "STRATA_S3_SECRET_KEY": SECRET,
        "STRATA_S3_REQUEST_TIMEOUT_SECONDS": "1",
    }


def test_a_bucket_is_written_and_left_as_it_was(
    bucket: FakeBucket, environ: dict[str, str], tmp_path: Path
) -> None:
    """The check finds that results can be kept; neither an object nor a file stays."""
    found = CliRunner().invoke(main, ["check", "--json"], env=environ)

    assert 0 == found.exit_code, found.output
    told = json.loads(found.output)["storage"]["object_store"]
    assert "bucket/artifacts can be written, read and cleared" == told
    assert ["PUT", "HEAD", "GET", "DELETE"] == [method for method, _key in bucket.asked]
    assert not bucket.objects
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    ("method", "fault", "told"),
    [
        ("PUT", "403", "bucket cannot be written: the credentials are refused; check name, endpoint, region"),
        (
            "PUT",
            "503",
            "bucket cannot be written: the store does not answer as it should; check name, endpoint, region",
        ),
        ("PUT", "404", "bucket cannot be written: there is no such bucket; check name, endpoint, region"),
        ("PUT", "stall", "bucket cannot be written: the store does not answer as it should; check name"),
        ("PUT", "lie", "bucket cannot be read after it was written: what was written is not there"),
        ("GET", "403", "bucket cannot be read after it was written: the credentials are refused"),
        ("GET", "damage", "bucket gives other bytes than were written to it."),
        (
            "DELETE",
            "403",
            "cannot be cleared of a written object: the credentials are refused; permit the cred",
        ),
    ],
)
def test_what_a_bucket_does_not_permit_is_told(
    bucket: FakeBucket, environ: dict[str, str], method: str, fault: str, told: str
) -> None:
    """Status 1, with the setting, what is not possible and the way out; no key and no URL is shown."""
    bucket.fault = lambda asked, _key: fault if asked == method else ""
    found = CliRunner().invoke(main, ["check", "--json"], env=environ)

    assert 1 == found.exit_code
    assert json.loads(found.output)["problems"]
    assert "artifact_s3_bucket" in found.output
    assert told in found.output
    assert SECRET not in found.output
    assert "127.0.0.1" not in found.output.replace("127.0.0.1:8765", "")


def test_a_dead_endpoint_is_told(environ: dict[str, str]) -> None:
    """Nothing listens there."""
    found = CliRunner().invoke(
        main, ["check"], env=environ | {"STRATA_S3_ENDPOINT_URL": "http://127.0.0.1:9"}
    )

    assert 1 == found.exit_code
    assert (
        "artifact_s3_bucket: bucket cannot be written: the store does not answer as it should" in found.output
    )
    assert SECRET not in found.output
    assert "127.0.0.1" not in found.output.replace("127.0.0.1:8765", "")


def test_a_check_of_google_and_of_a_missing_extra(
    bucket: FakeBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same probe; without the extra, the way to install it."""
    key = tmp_path / "key.json"
    key.write_text(NO_OAUTH)
    environ = {
        "STRATA_CACHE_DIR": str(tmp_path / "cache"), "STRATA_ARTIFACT_DIR": str(tmp_path / "artifacts"),
        "STRATA_ARTIFACT_BLOB_BACKEND": "gcs", "STRATA_ARTIFACT_GCS_BUCKET": "bucket",
        "STRATA_GCS_ENDPOINT_URL": bucket.address, "STRATA_GCS_SERVICE_ACCOUNT_FILE": str(key),
    }  # fmt: skip
    found = CliRunner().invoke(main, ["check"], env=environ)
    assert 0 == found.exit_code, found.output
    assert ["PUT", "HEAD", "GET", "DELETE"] == [method for method, _key in bucket.asked]

    monkeypatch.setitem(sys.modules, "obstore.store", None)
    found = CliRunner().invoke(main, ["check"], env=environ)
    assert 1 == found.exit_code
    assert "artifact_blob_backend: gcs needs an extra; pip install 'strata[objectstore]'." in found.output


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_scratch_directories_are_private_and_go_with_their_server(temporary: Path) -> None:
    """Two servers have one each; both are gone afterwards, whatever is in them."""
    with scratch_directory() as one, scratch_directory() as other:
        assert {one, other} == set(temporary.iterdir())
        assert 0o700 == one.stat().st_mode & 0o777
        (one / "half.part").write_bytes(b"half")
    assert [] == list(temporary.iterdir())


def test_scratch_directories_of_killed_servers_are_removed(temporary: Path) -> None:
    """Those of live servers stay, and so does what is none: a link, or a directory without a lock."""
    code = (
        "import os, signal, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from strata.server.scratch import scratch_directory\n"
        "with scratch_directory(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, temporary], check=False, timeout=60)
    [killed] = temporary.iterdir()
    (temporary / f"{PREFIX}link").symlink_to(temporary.parent)
    (temporary / f"{PREFIX}other").mkdir()
    with scratch_directory() as live:
        with scratch_directory():
            assert live.is_dir()
        assert not killed.exists()
        assert temporary.parent.is_dir()
        assert (temporary / f"{PREFIX}other").is_dir()


def test_a_scratch_directory_that_cannot_be_made_is_told(
    settings_without_directory: Settings, temporary: Path
) -> None:
    """One sentence of the operator's; the temporary directory is gone, or full."""
    shutil.rmtree(temporary)

    with pytest.raises(CannotOpenError, match="No such file or directory"):
        open_stores(settings_without_directory)


@pytest.fixture
def settings_without_directory(tmp_path: Path) -> Settings:
    return Settings(
        artifact_blob_backend="s3", artifact_s3_bucket="bucket", cache_dir=str(tmp_path / "cache"),
        artifact_metadata_dsn="postgresql://nobody@127.0.0.1:9/strata",
    )  # fmt: skip


def test_limits_are_kept_where_there_is_a_directory(
    settings_without_directory: Settings, tmp_path: Path
) -> None:
    """Below the cache without a directory of results; `tenant_overrides_file` names another place."""
    elsewhere = attrs.evolve(settings_without_directory, tenant_overrides_file=str(tmp_path / "limits.toml"))

    assert tmp_path / "cache" / "tenant-overrides.toml" == settings_without_directory.overrides_path
    assert tmp_path / "limits.toml" == elsewhere.overrides_path
    assert not attrs.evolve(settings_without_directory, artifact_dir=os.fspath(tmp_path)).needs_no_directory
