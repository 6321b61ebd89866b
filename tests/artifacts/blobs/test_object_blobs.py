"""Blobs in an object store, with local files as a cache."""

import hashlib
import http.server
import os
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore
from open_blobs import open_blob_store

from strata.artifacts import BLOB_GONE, LocalBlobStore
from strata.artifacts.blobs import objects
from strata.artifacts.blobs.object_failures import DAMAGED
from strata.artifacts.blobs.objects import STORE_DOWN, ObjectBlobStore
from strata.config import Settings
from strata.outcomes import RefusalError, Refused

DATA = bytes(range(256)) * 100
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a blob take four requests to download."""
    monkeypatch.setattr(objects, "FETCH_BYTES", 7000)


def write(store: ObjectBlobStore | LocalBlobStore, data: bytes = DATA) -> None:
    writer = store.begin("p")
    writer.append([data])
    writer.commit()


def content(store: ObjectBlobStore, data: bytes = DATA, size: int | None = None) -> bytes | Refused:
    size = len(data) if size is None else size
    reader = store.open_reader("p", hashlib.sha256(data).hexdigest(), size)
    if isinstance(reader, Refused):
        return reader
    try:
        return reader.read(0, size + 1)
    finally:
        os.close(reader.fd)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_a_signed_address_gives_the_object_and_no_other(kind: str, remote, tmp_path: Path) -> None:
    """For GET, in part, too; what the store does not have, or has with another size, gets no address."""
    store = ObjectBlobStore(remote(kind), "x", tmp_path)
    write(store)
    address = store.presign("p", SHA, len(DATA), 60)
    assert isinstance(address, str)
    assert f"/x/p/{SHA}.arrow?" in address
    with urllib.request.urlopen(address) as answer:
        assert DATA == answer.read()
    part = urllib.request.Request(address, headers={"Range": "bytes=5-9"})
    with urllib.request.urlopen(part) as answer:
        assert (206, DATA[5:10]) == (answer.status, answer.read())
    assert BLOB_GONE == store.presign("p", SHA, len(DATA) + 1, 60)
    assert BLOB_GONE == store.presign("p", hashlib.sha256(b"").hexdigest(), 0, 60)
    assert BLOB_GONE == store.presign("q", SHA, len(DATA), 60), "another tenant's prefix"


def test_a_store_that_is_down_signs_nothing(tmp_path: Path) -> None:
    """Readers are refused for the time being, and the result does not count as lost."""
    limits = {"artifact_s3_bucket": "b", "s3_request_timeout_seconds": 0.2, "s3_connect_timeout_seconds": 0.1}
    store = open_blob_store(tmp_path, **(s3_settings("http://127.0.0.1:9") | limits))
    assert isinstance(store, ObjectBlobStore)
    assert store.presign("p", SHA, 1, 60) == STORE_DOWN


@pytest.mark.parametrize("kind", ["memory", "files", "s3", "gcs", "azure"])
def test_a_missing_local_copy_is_fetched_once(
    kind: str, remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Artifacts outlive the container; sixteen readers share one download, one part per request."""
    there = remote(kind)
    write(ObjectBlobStore(there, "x", tmp_path / "one"))
    shutil.rmtree(tmp_path / "one")
    again = ObjectBlobStore(there, "x", tmp_path / "two")
    ranges: list[tuple[int, int]] = []
    real = obstore.get_range

    def counted(store: object, path: str, *, start: int, end: int) -> object:
        ranges.append((start, end))
        return real(store, path, start=start, end=end)

    monkeypatch.setattr(obstore, "get_range", counted)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: content(again), range(16)))

    assert [DATA] * 16 == found
    assert [(0, 7000), (7000, 14000), (14000, 21000), (21000, 25600)] == ranges
    assert not len(again._fetching), "no lock is kept for every blob there ever was"


def test_a_blob_is_in_the_store_when_its_commit_returns(remote, tmp_path: Path) -> None:
    """The key is prefix, tenant prefix and hash; a large blob is uploaded in parts."""
    there = remote("s3")
    large = DATA * 700
    for data, multipart in ((DATA, False), (large, True)):
        write(ObjectBlobStore(there, "/x/y/", tmp_path), data)
        key = f"x/y/p/{hashlib.sha256(data).hexdigest()}.arrow"
        assert data == bytes(obstore.get(there, key).bytes())
        assert multipart == ("-3" in obstore.head(there, key)["e_tag"])


def test_a_store_without_prefix_has_its_blobs_at_its_root(tmp_path: Path) -> None:
    """The key has no empty segment."""
    there = MemoryStore()
    write(ObjectBlobStore(there, "", tmp_path))

    assert [f"p/{SHA}.arrow"] == [found["path"] for page in obstore.list(there) for found in page]


@pytest.mark.parametrize("wrong", [b"y" * len(DATA), DATA[:-1], DATA + b"y"])
def test_other_bytes_under_a_hash_are_never_served(tmp_path: Path, wrong: bytes) -> None:
    """Size and hash are checked at every download; an object of another size is lost, one of its size is not."""
    there = MemoryStore()
    obstore.put(there, f"x/p/{SHA}.arrow", wrong)
    store = ObjectBlobStore(there, "x", tmp_path)
    told = DAMAGED if len(wrong) == len(DATA) else BLOB_GONE

    assert [told] * 2 == [content(store), content(store)]
    assert [] == files(tmp_path)


def test_an_upload_mends_what_is_damaged(tmp_path: Path) -> None:
    """Rebuilding a lost result overwrites the object instead of skipping the upload."""
    there = MemoryStore()
    obstore.put(there, f"x/p/{SHA}.arrow", b"y" * len(DATA))
    write(ObjectBlobStore(there, "x", tmp_path / "one"))

    assert DATA == content(ObjectBlobStore(there, "x", tmp_path / "two"))


def failing(*_: object, **__: object) -> object:
    raise GenericError("https://bucket.example/secret-path?X-Amz-Signature=… timed out")


def test_a_blob_that_is_not_taken_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """503, without a local copy that only this machine could serve, and without a URL in answer or log."""
    store = ObjectBlobStore(MemoryStore(), "x", tmp_path)
    monkeypatch.setattr(obstore, "put", failing)
    writer = store.begin("p")
    writer.append([DATA])

    with pytest.raises(RefusalError) as refusal:
        writer.commit()
    writer.abort()

    assert STORE_DOWN is refusal.value.refused
    assert [] == files(tmp_path)
    assert BLOB_GONE == content(store)
    assert "secret-path" not in caplog.text


@pytest.mark.parametrize("call", ["head", "get_range"])
def test_a_store_that_does_not_answer_is_not_a_lost_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The refusal is temporary, no partial copy stays, and later the blob is served."""
    there = MemoryStore()
    write(ObjectBlobStore(there, "x", tmp_path / "one"))
    store = ObjectBlobStore(there, "x", tmp_path / "two")
    with monkeypatch.context() as patch:
        patch.setattr(obstore, call, failing)
        assert STORE_DOWN == content(store)
    assert [] == files(tmp_path / "two")
    assert DATA == content(store)


def test_a_full_disk_is_not_a_lost_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object exists; only the local copy cannot be made."""
    there = MemoryStore()
    write(ObjectBlobStore(there, "x", tmp_path / "one"))
    store = ObjectBlobStore(there, "x", tmp_path / "two")

    def full(*_: object) -> int:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        assert STORE_DOWN == content(store)
    assert [] == files(tmp_path / "two")
    assert DATA == content(store)


def test_a_bucket_that_is_not_there_loses_no_artifact(s3: str, bucket: str, tmp_path: Path) -> None:
    """A missing bucket answers 404 to every blob; a misspelled bucket once gave up all artifacts."""

    def opened(name: str, root: str) -> ObjectBlobStore:
        found = open_blob_store(tmp_path / root, **(s3_settings(s3) | {"artifact_s3_bucket": name}))
        assert isinstance(found, ObjectBlobStore)
        return found

    write(opened(bucket, "one"))

    assert STORE_DOWN == content(opened("buckett", "two"))
    assert BLOB_GONE == content(opened(bucket, "three"), b"never written")
    assert DATA == content(opened(bucket, "four"))


def test_deleting_removes_the_object_and_the_copy(remote, tmp_path: Path) -> None:
    """The blob is missing for other servers, too."""
    there = remote("s3")
    store = ObjectBlobStore(there, "x", tmp_path / "one")
    write(store)
    store.delete("p", SHA)

    assert [] == files(tmp_path / "one")
    assert BLOB_GONE == content(ObjectBlobStore(there, "x", tmp_path / "two"))


def s3_settings(endpoint: str) -> dict:
    return {
        "artifact_blob_backend": "s3", "s3_endpoint_url": endpoint, "s3_region": "us-east-1",
        "s3_access_key": "k", "s3_secret_key": "s", "s3_connect_timeout_seconds": 5,
    }  # fmt: skip


@contextmanager
def listening(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Start a server on loopback that gives one answer to every request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            answer(self)

        do_GET = do_HEAD  # noqa: N815  # as http.server wants it

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_peer_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """s3_request_timeout_seconds bounds all attempts; a dead peer once blocked a thread for minutes."""
    done, outwaited = threading.Event(), []

    def silent(_: object) -> None:
        if not done.wait(10):
            outwaited.append("the peer gave up first")

    with listening(silent) as address:
        limits = {"artifact_s3_bucket": "b", "s3_request_timeout_seconds": 0.3}
        store = open_blob_store(tmp_path, **(s3_settings(address) | limits))
        found = store.open_reader("p", SHA, len(DATA))
        done.set()
    assert STORE_DOWN == found
    assert [] == outwaited


def test_credentials_come_from_the_environment_when_none_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The AWS variables are used; settings take precedence."""
    seen: list[str | None] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        request.send_error(403)

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with listening(answer) as address:
        given = s3_settings(address) | {"artifact_s3_bucket": "b"}
        open_blob_store(tmp_path, **given).open_reader("p", SHA, 1)
        del given["s3_access_key"], given["s3_secret_key"]
        open_blob_store(tmp_path, **given).open_reader("p", SHA, 1)
    first, second = seen[0], seen[-1]
    assert first is not None
    assert second is not None
    assert "Credential=k/" in first
    assert "Credential=from-environment/" in second


def test_plain_http_is_spoken_only_where_the_endpoint_says_so(tmp_path: Path) -> None:
    """An https endpoint is never downgraded."""
    store = open_blob_store(
        tmp_path, artifact_blob_backend="s3", artifact_s3_bucket="b", s3_endpoint_url="https://127.0.0.1:1"
    )
    assert isinstance(store, ObjectBlobStore)
    assert "allow_http" not in (store._store.client_options or {})


def test_the_settings_choose_the_store(tmp_path: Path) -> None:
    """The default is local; an unknown backend or setting is an error."""
    assert isinstance(open_blob_store(tmp_path), LocalBlobStore)
    with pytest.raises(ValueError, match="unknown artifact_blob_backend 'ftp'"):
        open_blob_store(tmp_path, artifact_blob_backend="ftp")
    with pytest.raises(TypeError, match="artifact_s3_buckets"):
        open_blob_store(tmp_path, artifact_s3_buckets="b")


def test_keys_are_not_shown() -> None:
    """The repr of settings contains no keys, for logs and debuggers."""
    shown = repr(Settings(s3_access_key="AKIA", s3_secret_key="hunter2"))
    assert "AKIA" not in shown
    assert "hunter2" not in shown
