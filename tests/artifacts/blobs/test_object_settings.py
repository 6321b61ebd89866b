"""Each setting reaches the object store it is for."""

import hashlib
import os
import urllib.request
from pathlib import Path

import obstore
import pytest
from azurite_kit import ACCOUNT, KEY
from fake_bucket import NO_OAUTH, FakeBucket
from open_blobs import open_blob_store

from strata.artifacts.blobs.objects import ObjectBlobStore, open_object_store
from strata.config import Settings
from strata.config.groups.object_stores import object_store_problems
from strata.server.stores import CannotOpenError

moto = pytest.importorskip("moto.server", reason="moto is a test dependency")


def test_s3_settings_reach_a_bucket(tmp_path: Path) -> None:
    """Endpoint, region, keys, bucket and prefix; against moto on loopback."""
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/results", method="PUT")).close()
        settings = Settings(
            artifact_blob_backend="s3", artifact_s3_bucket="results", artifact_s3_prefix="some/where",
            s3_endpoint_url=endpoint, s3_region="eu-west-1", s3_access_key="k", s3_secret_key="s",
            s3_connect_timeout_seconds=2, s3_request_timeout_seconds=5,
        )  # fmt: skip
        store = ObjectBlobStore(*open_object_store("s3", settings), tmp_path)
        writer = store.begin("tenant")
        writer.append([b"bytes"])
        facts = writer.commit()
        facts.path.unlink()
        digest = hashlib.sha256(b"bytes").hexdigest()
        raw, _ = open_object_store("s3", settings)
        direct = bytes(obstore.get(raw, f"some/where/tenant/{digest}.arrow").bytes())
        reader = store.open_reader("tenant", digest, 5)
        assert (b"bytes", b"bytes") == (direct, os.pread(reader.fd, 10, 0))
        os.close(reader.fd)
    finally:
        server.stop()


def test_anonymous_requests_are_unsigned() -> None:
    """The setting s3_anonymous disables signatures."""
    settings = Settings(artifact_s3_bucket="b", s3_anonymous=True, s3_region="us-east-1")
    store, prefix = open_object_store("s3", settings)

    assert ("artifacts", True) == (prefix, bool(store.config["skip_signature"]))
    assert "secret_access_key" not in store.config


def test_a_dead_endpoint_is_a_refusal_within_its_timeouts(tmp_path: Path) -> None:
    """A dead peer must not block a thread for long."""
    settings = Settings(
        artifact_s3_bucket="b", s3_endpoint_url="http://127.0.0.1:9", s3_region="x", s3_access_key="k",
        s3_secret_key="s", s3_connect_timeout_seconds=0.1, s3_request_timeout_seconds=0.2,
    )  # fmt: skip
    store = ObjectBlobStore(*open_object_store("s3", settings), tmp_path)

    assert "blob_store_down" == store.open_reader("t", "0" * 64, 5).code


def test_google_settings_reach_a_bucket(tmp_path: Path, xml_bucket: FakeBucket) -> None:
    """Endpoint, key file, bucket and prefix; against a server with Google's XML API."""
    key = tmp_path / "key.json"
    key.write_text(NO_OAUTH)
    store = open_blob_store(
        tmp_path / "blobs", artifact_blob_backend="gcs", artifact_gcs_bucket="bucket", artifact_gcs_prefix="a/b",
        gcs_endpoint_url=xml_bucket.address, gcs_service_account_file=str(key),
    )  # fmt: skip
    writer = store.begin("tenant")
    writer.append([b"bytes"])
    facts = writer.commit()

    assert {f"a/b/tenant/{facts.sha256}.arrow": b"bytes"} == xml_bucket.objects


def test_azure_settings_reach_a_container(tmp_path: Path, azure: str, container: str) -> None:
    """Endpoint, account, key, container and prefix; another key is refused by the service."""
    given = {
        "artifact_blob_backend": "azure", "artifact_azure_container": container, "artifact_azure_prefix": "a/b",
        "azure_endpoint_url": azure, "azure_account": ACCOUNT, "azure_account_key": KEY,
    }  # fmt: skip
    writer = open_blob_store(tmp_path / "one", **given).begin("tenant")
    writer.append([b"bytes"])
    facts = writer.commit()
    raw, _ = open_object_store("azure", Settings(**given))
    assert b"bytes" == bytes(obstore.get(raw, f"a/b/tenant/{facts.sha256}.arrow").bytes())

    wrong = open_blob_store(tmp_path / "two", **(given | {"azure_account_key": "b3RoZXI="}))
    assert "blob_store_denied" == wrong.open_reader("tenant", facts.sha256, 5).code


def test_azure_takes_a_signature_or_an_application() -> None:
    """What the settings name reaches the client under its own names; unverified against the real service."""
    with_sas = Settings(
        artifact_azure_container="c", azure_account="a", azure_sas_token="sv=2024&sig=x",
    )  # fmt: skip
    application = Settings(
        artifact_azure_container="c", azure_account="a", azure_client_id="i", azure_client_secret="s",
        azure_directory_id="d",
    )  # fmt: skip

    assert "sv=2024&sig=x" == open_object_store("azure", with_sas)[0].config["sas_key"]
    found = open_object_store("azure", application)[0].config
    assert ("i", "s", "d") == (found["client_id"], found["client_secret"], found["tenant_id"])


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"artifact_blob_backend": "s3"}, "artifact_s3_bucket"),
        ({"artifact_blob_backend": "gcs"}, "artifact_gcs_bucket"),
        ({"artifact_blob_backend": "azure"}, "artifact_azure_container"),
        ({"s3_access_key": "HIDDEN"}, "s3_secret_key"),
        ({"s3_secret_key": "HIDDEN"}, "s3_access_key"),
        ({"s3_session_token": "HIDDEN"}, "s3_session_token"),
        ({"s3_access_key": "HIDDEN", "s3_secret_key": "HIDDEN", "s3_anonymous": True}, "s3_anonymous"),
        ({"s3_endpoint_url": "storage.example:9000"}, "s3_endpoint_url"),
        ({"s3_endpoint_url": "http://"}, "s3_endpoint_url"),
        ({"s3_endpoint_url": "http://host:99999999"}, "s3_endpoint_url"),
        ({"s3_endpoint_url": "http://a b/"}, "s3_endpoint_url"),
        ({"s3_endpoint_url": "ftp://host"}, "s3_endpoint_url"),
        ({"gcs_endpoint_url": "host"}, "gcs_endpoint_url"),
        ({"azure_endpoint_url": "[::1"}, "azure_endpoint_url"),
        ({"artifact_blob_backend": "gcs", "artifact_gcs_bucket": "b", "gcs_service_account_file": "/no/such"},
         "gcs_service_account_file"),
        ({"artifact_blob_backend": "azure", "artifact_azure_container": "c", "azure_account_key": "HIDDEN",
          "azure_sas_token": "HIDDEN"}, "azure_sas_token"),
        ({"artifact_blob_backend": "azure", "artifact_azure_container": "c", "azure_client_secret": "HIDDEN",
          "azure_client_id": "i"}, "azure_directory_id"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_a_problem(given: dict, setting: str) -> None:
    """Each names its setting and shows no secret; a client library ended with a panic on some endpoints."""
    given = {"artifact_blob_backend": "s3"} | given
    if given["artifact_blob_backend"] == "s3" and setting != "artifact_s3_bucket":
        given["artifact_s3_bucket"] = "b"
    [problem] = object_store_problems(Settings(**given))

    assert setting == problem.setting
    assert "HIDDEN" not in str(problem)


def test_settings_that_agree_are_no_problem() -> None:
    """Keys of all kinds, and none at all: roles and variables remain."""
    for given in (
        {"artifact_blob_backend": "local"},
        {"artifact_blob_backend": "s3", "artifact_s3_bucket": "b"},
        {"artifact_blob_backend": "s3", "artifact_s3_bucket": "b", "s3_access_key": "k", "s3_secret_key": "s",
         "s3_session_token": "t", "s3_endpoint_url": "http://[::1]:9000"},
        {"artifact_blob_backend": "gcs", "artifact_gcs_bucket": "b"},
        {"artifact_blob_backend": "azure", "artifact_azure_container": "c", "azure_account": "a"},
    ):  # fmt: skip
        assert [] == list(object_store_problems(Settings(**given)))


def test_a_store_that_cannot_be_made_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not start, and its reason has neither a secret nor a page of debugging."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(CannotOpenError) as missing:
        open_blob_store(tmp_path, artifact_blob_backend="azure", artifact_azure_container="c")
    with pytest.raises(CannotOpenError) as wrong:
        open_blob_store(
            tmp_path, artifact_blob_backend="azure", artifact_azure_container="c", azure_account="a",
            azure_account_key="!!no base64!!",
        )  # fmt: skip

    assert "artifact_blob_backend: Generic MicrosoftAzure error: Account must be specified." == str(
        missing.value
    )
    assert "Invalid Access Key" in str(wrong.value)
    assert "base64!!" not in str(wrong.value)
