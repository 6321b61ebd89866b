"""`memory_budget_bytes` bounds what the server and its readers take, seen from outside, while tenants scan much."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import attrs
import httpx
import numpy as np
import pyarrow as pa
import pytest
from processes import family
from service_kit import Process, Warehouse, environment, identity, process, scan

from strata.config import Settings

MIB = 1 << 20
BUDGET = 256 * MIB
BEYOND = 150 * MIB
TENANTS = 8
ROWS = 1_000_000
COLUMNS = 20


def memory(pid: int) -> dict[str, int]:
    """Return the bytes of a process and its children that are not of files; what they share counts once.

    Each is named by its number and the module that it runs.
    """
    found = {}
    for one in family(pid):
        with suppress(OSError):  # it has ended
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            kept = [int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem"))]
            found[f"{one} {Path(f'/proc/{one}/cmdline').read_text()[-40:]}"] = sum(kept) * 1024
    return found


@attrs.define
class Watch:
    """Looks at a server's memory until it is told to stop.

    Attributes:
        most: The most that was seen.
    """

    pid: int
    most: dict[str, int] = attrs.field(factory=dict)
    stopped: threading.Event = attrs.field(factory=threading.Event)

    def run(self) -> None:
        while not self.stopped.wait(0.05):
            self.most = max(self.most, memory(self.pid), key=lambda found: sum(found.values()))


def summed(server: Process, uri: str, tenant: int) -> float:
    """Scan a table as a tenant, and return the sum of all values, reading the stream a part at a time."""
    headers = identity(f"p{tenant}", f"team-{tenant}")
    total = 0.0
    with httpx.Client(base_url=server.url, headers=headers, timeout=300) as client:
        made = client.post("/v1/materialize", json=scan(uri)).raise_for_status().json()
        with client.stream("GET", made["stream_url"]) as answer:
            assert answer.is_success, answer.read()
            with pa.ipc.open_stream(Parts(answer.iter_raw(MIB))) as stream:
                for batch in stream:
                    total += sum(float(np.sum(column.to_numpy())) for column in batch.columns)
    return total


class Parts:
    """A file for Arrow whose bytes come in parts."""

    closed = False

    def __init__(self, parts) -> None:
        self._parts, self._left = parts, b""

    def read(self, size: int = -1) -> bytes:
        while len(self._left) < size and (part := next(self._parts, b"")):
            self._left += part
        found, self._left = self._left[:size], self._left[size:]
        return found

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


@pytest.mark.slow
def test_eight_tenants_scan_large_row_groups_within_the_budget(
    tmp_path: Path, settings: Settings, warehouse: Warehouse
) -> None:
    """Each 20 columns of 1,000,000 doubles in one row group; all sums are right, and no tenant is refused.

    What an idle server has (about 350 MiB: two interpreters with Arrow and Iceberg, and the readers' own pages)
    is not of the budget. Readers had an arena of memory for each thread once: full of holes, it was short of
    memory while nothing was allocated, and files were refused for what neighbours had read.
    """
    values = np.random.default_rng(7).random((COLUMNS, ROWS))
    warehouse.create(
        pa.table({f"c{at}": column for at, column in enumerate(values)}),
        "db.large",
        **{"write.parquet.row-group-limit": str(ROWS), "write.parquet.compression-codec": "uncompressed"},
    )
    warehouse.create(pa.table({"c": [1.0]}), "db.small")
    variables = environment(settings) | {"STRATA_MEMORY_BUDGET_BYTES": str(BUDGET)}
    with process(tmp_path, **variables) as server:
        assert 1 == summed(server, warehouse.uri("db.small"), 0)
        idle = sum(memory(server.popen.pid).values())
        watch = Watch(server.popen.pid)
        watcher = threading.Thread(target=watch.run)
        watcher.start()
        try:
            with ThreadPoolExecutor(TENANTS) as tenants:
                one = [tenants.submit(summed, server, warehouse.uri("db.large"), at) for at in range(TENANTS)]
                sums = [found.result() for found in one]
        finally:
            watch.stopped.set()
            watcher.join()
        assert sums == pytest.approx([float(values.sum())] * TENANTS)
        assert sum(watch.most.values()) - idle <= BUDGET + BEYOND, (idle, watch.most)
