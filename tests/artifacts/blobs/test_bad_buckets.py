"""Buckets that fail, stall or lie: one request is refused, with its cause, and no result is lost by it."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import obstore
import pytest
from fake_bucket import NO_OAUTH, FakeBucket
from obstore.store import MemoryStore
from open_blobs import open_blob_store
from structlog.testing import capture_logs

from strata.artifacts import BLOB_GONE, BlobFacts, BlobStore
from strata.artifacts.blobs.object_failures import (
    DAMAGED,
    DENIED,
    NOT_REMOVED,
    NOT_STORED,
    STORE_DOWN,
    failures_as_refusals,
)
from strata.artifacts.blobs.objects import ObjectBlobStore
from strata.artifacts.blobs.store import Emptied
from strata.outcomes import RefusalError, Refused

DATA = bytes(range(256)) * 100
LARGE = DATA * 700
SHA = hashlib.sha256(DATA).hexdigest()
SOON = {"s3_connect_timeout_seconds": 5, "s3_request_timeout_seconds": 0.3}
GCS = {"artifact_blob_backend": "gcs", "artifact_gcs_bucket": "bucket"}
S3 = {
    "artifact_blob_backend": "s3",
    "artifact_s3_bucket": "bucket",
    "s3_access_key": "k",
    "s3_secret_key": "s",
}


@pytest.fixture(params=["gcs", "s3"])
def settings(request: pytest.FixtureRequest, xml_bucket: FakeBucket, tmp_path: Path) -> dict:
    """Settings of a store whose bucket can be told to misbehave."""
    key = tmp_path / "key.json"
    key.write_text(NO_OAUTH)
    given = GCS | {"gcs_service_account_file": str(key)} if request.param == "gcs" else S3
    return given | {f"{request.param}_endpoint_url": xml_bucket.address, "s3_request_timeout_seconds": 5}


@pytest.fixture
def store(settings: dict, tmp_path: Path) -> BlobStore:
    return open_blob_store(tmp_path / "one", **settings)


@pytest.fixture
def elsewhere(settings: dict, tmp_path: Path) -> BlobStore:
    """The same store as another server has it: without local copies."""
    return open_blob_store(tmp_path / "two", **settings)


def write(store: BlobStore, data: bytes = DATA) -> BlobFacts:
    writer = store.begin("p")
    writer.append([data])
    try:
        return writer.commit()
    finally:
        writer.abort()


def refusal(store: BlobStore, data: bytes = DATA) -> Refused:
    with pytest.raises(RefusalError) as found:
        write(store, data)
    return found.value.refused


def content(store: BlobStore, data: bytes = DATA) -> bytes | Refused:
    reader = store.open_reader("p", hashlib.sha256(data).hexdigest(), len(data))
    if isinstance(reader, Refused):
        return reader
    try:
        return reader.read(0, len(data) + 1)
    finally:
        os.close(reader.fd)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("data", [DATA, LARGE], ids=["one request", "parts"])
def test_a_put_that_lies_is_found_before_the_result_counts(
    xml_bucket: FakeBucket, store: BlobStore, tmp_path: Path, data: bytes
) -> None:
    """Each upload is followed by a HEAD; what the bucket acknowledged and does not have is not ready."""
    xml_bucket.fault = lambda method, _key: "lie" if method in ("PUT", "POST") else ""

    assert NOT_STORED is refusal(store, data)
    assert [] == files(tmp_path / "one")
    assert not xml_bucket.objects
    xml_bucket.fault = lambda _method, _key: ""
    write(store, data)
    assert [data] == list(xml_bucket.objects.values())


def test_a_put_that_keeps_a_part_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size that the store names is compared with the blob's."""
    store = ObjectBlobStore(MemoryStore(), "x", tmp_path)
    real = obstore.put

    def cut(there: MemoryStore, key: str, file: object, **_: object) -> object:
        return real(there, key, file.read()[:-1])  # type: ignore[attr-defined]  # the blob's file

    monkeypatch.setattr(obstore, "put", cut)

    assert NOT_STORED is refusal(store)


def test_one_damaged_answer_does_not_lose_a_result(
    xml_bucket: FakeBucket, store: BlobStore, elsewhere: BlobStore
) -> None:
    """It is fetched again at once; readers do not notice."""
    write(store)
    faults = iter(["damage"])
    xml_bucket.fault = lambda method, _key: next(faults, "") if method == "GET" else ""

    assert DATA == content(elsewhere)


def test_damaged_answers_refuse_for_the_time_being(
    xml_bucket: FakeBucket, store: BlobStore, elsewhere: BlobStore, tmp_path: Path
) -> None:
    """503 while the answers are wrong, the result when they no longer are, and nothing wrong is kept."""
    write(store)
    xml_bucket.fault = lambda method, _key: "damage" if method == "GET" else ""
    assert [DAMAGED] * 3 == [content(elsewhere) for _ in range(3)]
    assert [] == files(tmp_path / "two")

    xml_bucket.fault = lambda _method, _key: ""
    assert DATA == content(elsewhere)


def test_answers_that_break_off_are_no_short_results(
    xml_bucket: FakeBucket, store: BlobStore, elsewhere: BlobStore
) -> None:
    """The connection ends a byte early."""
    write(store)
    xml_bucket.fault = lambda method, _key: "cut" if method == "GET" else ""
    assert content(elsewhere) in (STORE_DOWN, DAMAGED)

    xml_bucket.fault = lambda _method, _key: ""
    assert DATA == content(elsewhere)


def test_a_result_is_lost_when_the_store_says_so(
    xml_bucket: FakeBucket, store: BlobStore, elsewhere: BlobStore
) -> None:
    """HEAD says gone, or another size."""
    write(store)
    [key] = xml_bucket.objects
    xml_bucket.objects[key] = DATA[:-1]
    assert BLOB_GONE == content(elsewhere)

    del xml_bucket.objects[key]
    assert BLOB_GONE == content(elsewhere)


@pytest.mark.parametrize("fault", ["503", "500", "403", "401"])
def test_a_bucket_that_refuses(xml_bucket: FakeBucket, settings: dict, tmp_path: Path, fault: str) -> None:
    """Reads, builds and removals are refused with the cause; the log names call and status, and no URL."""
    write(open_blob_store(tmp_path / "one", **settings))
    xml_bucket.fault = lambda _method, _key: fault
    store = open_blob_store(tmp_path / "two", **(settings | SOON))
    told = DENIED if fault in ("401", "403") else STORE_DOWN

    with capture_logs() as logs:
        assert told == content(store)
        assert told is refusal(store)
        with pytest.raises(RefusalError) as deleted:
            store.delete("p", SHA)
    assert told is deleted.value.refused
    assert [(call, int(fault)) for call in ("get", "put", "delete")] == [
        (e["call"], e["status"]) for e in logs
    ]
    assert "127.0.0.1" not in str(logs)
    xml_bucket.fault = lambda _method, _key: ""
    assert DATA == content(store)


@pytest.mark.parametrize("stalled", ["HEAD", "GET", "PUT", "DELETE"])
def test_a_bucket_that_stalls_is_given_up(
    xml_bucket: FakeBucket, settings: dict, tmp_path: Path, stalled: str
) -> None:
    """Each call ends by s3_request_timeout_seconds; the bucket would have held it for 30 seconds."""
    write(open_blob_store(tmp_path / "one", **settings))
    xml_bucket.fault = lambda method, _key: "stall" if method == stalled else ""
    store = open_blob_store(tmp_path / "two", **(settings | SOON))

    if stalled == "DELETE":
        with pytest.raises(RefusalError) as found:
            store.delete("p", SHA)
        assert STORE_DOWN is found.value.refused
    elif stalled == "PUT":
        assert STORE_DOWN is refusal(store, b"other")
    else:
        assert STORE_DOWN == content(store)
    assert not xml_bucket.ended.is_set()


class PanicException(BaseException):
    """As the client library raises it."""


def test_a_panic_of_the_client_library_ends_one_request() -> None:
    """It is no Exception, and would end the server; a cancellation or an exit goes through."""
    with pytest.raises(RefusalError) as found, failures_as_refusals("get"):
        raise PanicException("request valid: InvalidUri")
    assert STORE_DOWN is found.value.refused
    for other in (KeyboardInterrupt(), ValueError("a bug")):
        with pytest.raises(type(other)), failures_as_refusals("get"):
            raise other


def test_a_large_blob_goes_in_parts(xml_bucket: FakeBucket, store: BlobStore) -> None:
    """Four parts at most are in memory; what is sent in parts is whole, and no part is left."""
    write(store, LARGE)

    assert ("POST", f"artifacts/p/{hashlib.sha256(LARGE).hexdigest()}.arrow") in xml_bucket.asked
    assert [LARGE] == list(xml_bucket.objects.values())
    assert not xml_bucket.uploads


def test_all_of_thousands_of_objects_are_removed(xml_bucket: FakeBucket, store: BlobStore) -> None:
    """A listing has pages of 1,000; servers elsewhere removed the first page only."""
    for number in range(2_345):
        xml_bucket.objects[f"artifacts/p/{number:064x}.arrow"] = b"12345"
    xml_bucket.objects["artifacts/p2/other.arrow"] = b"1"

    assert Emptied(2_345, 5 * 2_345) == store.empty("p")
    assert ["artifacts/p2/other.arrow"] == list(xml_bucket.objects)


def test_marks_of_folders_are_no_blobs(xml_bucket: FakeBucket, store: BlobStore) -> None:
    """Consoles make empty objects whose keys end in a slash: they are left, and the removal ends."""
    marks = {"artifacts/p/": b"", "artifacts/p/old/": b""}
    xml_bucket.objects.update(marks)
    write(store)

    assert Emptied(1, len(DATA)) == store.empty("p")
    assert marks == xml_bucket.objects


def test_a_bucket_that_lists_what_it_removed_is_told(
    xml_bucket: FakeBucket, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be listed for ever."""
    write(store)
    monkeypatch.setattr(obstore, "delete", lambda *_: None)
    with pytest.raises(RefusalError) as found:
        store.empty("p")

    assert NOT_REMOVED is found.value.refused
    assert xml_bucket.objects


@pytest.mark.parametrize("failing", ["PUT", "POST"])
def test_an_upload_in_parts_that_fails_leaves_no_part(
    xml_bucket: FakeBucket, store: BlobStore, failing: str
) -> None:
    """A part, or the end of the upload, is refused: the upload is aborted; its parts would be invisible and paid for."""
    asked: Counter[str] = Counter()

    def fault(method: str, _key: str) -> str:
        asked[method] += 1
        return "403" if method == failing and asked[method] == 2 else ""

    xml_bucket.fault = fault
    refusal(store, LARGE)
    assert asked["PUT"] >= 2, "it was in parts"
    assert ({}, {}) == (xml_bucket.uploads, xml_bucket.objects)
