"""Each setting reaches the object store it is for."""

import hashlib
import os
import urllib.request
from pathlib import Path

import obstore
import pytest

from strata.artifacts.blobs.objects import ObjectBlobStore, open_object_store
from strata.config import Settings

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


@pytest.mark.parametrize(
    ("backend", "place"),
    [("gcs", {"artifact_gcs_bucket": "b", "artifact_gcs_prefix": "p"}),
     ("azure", {"artifact_azure_container": "b", "artifact_azure_prefix": "p"})],
)  # fmt: skip
def test_other_clouds_are_constructed(backend: str, place: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unverified against the real services: only bucket and prefix are checked."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    store, prefix = open_object_store(backend, Settings(**place))

    assert ("p", "b") == (prefix, store.config.get("bucket") or store.config.get("container_name"))
