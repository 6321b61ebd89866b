"""Whatever a tenant's file says: it ends no server, takes nothing from a neighbour, and is refused by its name."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import httpx
import pyarrow as pa
import pytest
from mutated_files import KINDS, Case, make_cases, numbers_and_texts, right_rows
from processes import family
from service_kit import Process, Warehouse, environment, identity, numbers, process, scan

from strata.config import Settings

COUNT = int(os.environ.get("FUZZ_FILES") or 30)
"""Mutated files of each kind; ``nox -s fuzz_files`` takes 20,000."""

FIRST = int(os.environ.get("FUZZ_FILES_FIRST") or 0)
"""The first seed."""

BATCH = 500
"""Tables that there are at a time."""

CLIENTS = 4
TRIES = 50

PACE = 0.02
"""Seconds between two pieces that the neighbour reads: it is a witness all the while, and leaves the processor to the files."""

MINE, THEIRS = identity("ana", "team-a"), identity("bob", "team-b")

NAMES_A_FILE = re.compile(
    r"\b(?:file|deletion vector|manifest list|manifest) \S*[\w.-]+",
    re.IGNORECASE,
)


@attrs.frozen
class Answer:
    """What came of a scan.

    Attributes:
        status: The HTTP status; 0: the stream was torn.
        text: The problem's document; of a torn stream, the build's.
        rows: The rows.
    """

    status: int
    text: str = ""
    rows: pa.Table | None = None


def ask(client: httpx.Client, uri: str) -> Answer:
    """Scan a table; when the server is too busy, again."""
    found = Answer(503)
    for _ in range(TRIES):
        found = _ask(client, uri)
        if found.status != 503:
            break
        time.sleep(0.2)
    return found


def _ask(client: httpx.Client, uri: str) -> Answer:
    found = client.post("/v1/materialize", json=scan(uri, refresh=True), headers=MINE)
    if found.is_success:
        made = found.json()
        try:
            found = client.get(made["stream_url"], headers=MINE)
        except (
            httpx.RemoteProtocolError
        ):  # damage behind rows that were sent: the build tells why it was torn
            told = client.get(f"/v1/builds/{made['build_id']}", headers=MINE)
            return Answer(0, told.text)
    if not found.is_success:
        return Answer(found.status_code, found.text)
    return Answer(200, rows=pa.ipc.open_stream(found.content).read_all())


def fault(kind: str, case: Case, answer: Answer) -> str | None:
    """Return what is wrong with the answer to a scan of a mutated file, if anything is."""
    if answer.rows is None:
        if answer.status == 503 or "Traceback" in answer.text or "bug" in answer.text:
            return f"{answer.status} {answer.text}"
        named = case.file.name in answer.text or case.name in answer.text or NAMES_A_FILE.search(answer.text)
        # What a table's metadata says, without damage to its JSON, is refused as the table's.
        named = named or (kind == "metadata" and "table" in answer.text)
        return None if named else f"names no file: {answer.status} {answer.text}"
    whole = KINDS[kind].guarded or not case.changed
    found = answer.rows.to_pylist() if whole or KINDS[kind].narrows else []
    if whole and found != right_rows(kind):
        return "other rows, though nothing was changed or the format has a checksum"
    rows = numbers_and_texts().to_pylist()
    return None if all(row in rows for row in found) else f"rows that there are not: {found}"


@attrs.define
class Neighbour:
    """Another tenant, which streams a result again and again.

    Attributes:
        streams: Streams that were received whole.
        faults: What was wrong.
    """

    url: str
    uri: str
    streams: int = 0
    faults: list[str] = attrs.field(factory=list)
    _stop: threading.Event = attrs.field(factory=threading.Event)

    def stream(self) -> None:
        """Stream until it is stopped, at least once."""
        try:
            with httpx.Client(base_url=self.url, timeout=120, headers=THEIRS) as client:
                self._stream(client)
        except Exception as error:  # noqa: BLE001  # of a thread: the test tells it
            self.faults.append(repr(error))

    def _stream(self, client: httpx.Client) -> None:
        made = client.post("/v1/materialize", json=scan(self.uri)).json()
        artifact, _, version = made["artifact_uri"].removeprefix("strata://artifact/").partition("@v=")
        client.get(made["stream_url"])
        seen = set[tuple[int, str]]()
        while not (self._stop.is_set() and self.streams):
            with client.stream("GET", f"/v1/artifacts/{artifact}/v/{version}/data") as found:
                digest, size = hashlib.sha256(), 0
                for chunk in found.iter_raw(65536):
                    digest.update(chunk)
                    size += len(chunk)
                    self._stop.wait(PACE)
            seen.add((size, digest.hexdigest()))
            if found.status_code != 200 or len(seen) > 1:
                self.faults.append(f"{found.status_code} {seen}")
            self.streams += 1

    @contextmanager
    def streaming(self) -> Iterator[None]:
        thread = threading.Thread(target=self.stream)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def opened(pid: int, folder: Path) -> list[str]:
    """Return the files below a folder that a process and its children have open or mapped."""
    found = []
    for one in family(pid):
        with suppress(OSError):
            for link in Path(f"/proc/{one}/fd").iterdir():
                with suppress(OSError):
                    found.append(str(link.readlink()))
            found += Path(f"/proc/{one}/maps").read_text().splitlines()
    return [one for one in found if str(folder) in one]


def gauges(client: httpx.Client) -> dict[str, float]:
    """Return the server's metrics that say what is in use, summed over their labels."""
    text = client.get("/metrics/prometheus", headers=identity("root", "team-r", "admin:metrics")).text
    found: dict[str, float] = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in {
            "strata_slots_in_use",
            "strata_slots_waiting",
            "strata_readers",
            "strata_actor_restarts_total",
        }:
            found[name] = found.get(name, 0) + float(line.rpartition(" ")[2])
    return found


def nothing_is_left(server: Process, client: httpx.Client, warehouse: Warehouse, settings: Settings) -> None:
    """Check that no slot, descriptor, mapping, temporary file or reader too many is left."""
    for _ in range(100):
        found = gauges(client)
        files = opened(server.popen.pid, warehouse.path / "cases")
        if not files and not found.get("strata_slots_in_use") and not found.get("strata_slots_waiting"):
            break
        time.sleep(0.1)
    assert [] == files
    assert 0 == found.get("strata_slots_in_use", 0) == found.get("strata_slots_waiting", 0)
    assert 0 == found.get("strata_actor_restarts_total", 0)
    assert found["strata_readers"] <= 4 * (len(os.sched_getaffinity(0)) + 2)
    assert [] == [*Path(settings.artifact_dir).glob("blobs/growing/*")]


def put(server: Process, warehouse: Warehouse, kind: str, seeds: range) -> list[str]:
    """Scan the tables of some seeds; returns what was wrong."""
    cases = make_cases(warehouse.path, kind, seeds)
    faults = []
    with httpx.Client(base_url=server.url, timeout=120) as client, ThreadPoolExecutor(CLIENTS) as clients:
        answers = clients.map(lambda case: ask(client, warehouse.uri(f"cases.{case.name}")), cases)
        for case, answer in zip(cases, answers, strict=True):
            if (wrong := fault(kind, case, answer)) is not None:
                faults.append(f"{case.name}: {wrong}")
    shutil.rmtree(warehouse.path / "cases")
    return faults


@pytest.mark.slow
def test_nothing_of_a_file_ends_the_server(tmp_path: Path, settings: Settings, warehouse: Warehouse) -> None:
    """Each mutated file is answered with rows, or refused by its name; the neighbour receives every byte."""
    warehouse.create(numbers(100_000), "db.other")
    warehouse.catalog.create_namespace("cases")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    variables = environment(settings) | {"TMPDIR": str(temporary)}
    with process(tmp_path, **variables) as server, httpx.Client(base_url=server.url, timeout=120) as client:
        before, neighbour = [*temporary.iterdir()], Neighbour(server.url, warehouse.uri("db.other"))
        faults = []
        with neighbour.streaming():
            for kind in KINDS:
                for first in range(FIRST, FIRST + COUNT, BATCH):
                    seeds = range(first, min(first + BATCH, FIRST + COUNT))
                    faults += put(server, warehouse, kind, seeds)
                    assert server.popen.poll() is None, faults
        assert [] == faults
        assert [] == neighbour.faults
        assert neighbour.streams
        nothing_is_left(server, client, warehouse, settings)
        assert before == [*temporary.iterdir()]
        assert "tenant crashed" not in server.log.read_text()
