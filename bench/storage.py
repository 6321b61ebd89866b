"""Measure a tenant that writes results as fast as it can: its quota on the disk, and its neighbour.

Tenant A has a quota of stored bytes. Over several connections it asks for one result after another, each of
them different, as fast as they are answered, and repeats at once what is refused. Tenant B, on the same disk,
has a small result built four times a second, a different one each time: first alone, on a server of its own,
then beside A. Measured are

- the most bytes that the files of A's results, finished and unfinished, took on the disk, beside its quota;
- B's latencies, from the request to the last byte, and those of a finished result that it fetches again;
- the most memory of the server, without its readers;
- refusals and failures of B, of which there may be none.

There are no rate limits. A's clients run at a lower priority: they would be on other machines.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import figures
import neighbour_clients as clients
import servers
import tables
import workload

from strata.artifacts import tenant_prefix

MB = 1e6
MS = 1e-3
AIM = 1.5
LOUD, QUIET = "a", "b"
WRITERS = 8
RATE = 4.0
TICK = 0.05
BLOCK = 512
"""Bytes of ``st_blocks``, whatever the file system."""

CONFIG = """
[tool.strata.tenants.a]
artifact_max_bytes = {quota}
"""


@attrs.define
class OnDisk:
    """What a tenant's results take on the disk, now and then looked at.

    Attributes:
        root: Directory of all results.
        apart: Parts of it that are not counted.
        most: The most bytes that they took.
        looks: How often it was looked.
    """

    root: Path
    apart: frozenset[str]
    most: int = 0
    looks: int = 0

    def look(self) -> None:
        """Add up the files: those of the tenant, and all that grow, whoever's they are."""
        found = 0
        for part in self.root.iterdir() if self.root.exists() else ():
            if part.name not in self.apart:
                found += _bytes_below(part)
        self.most, self.looks = max(self.most, found), self.looks + 1


def _bytes_below(directory: Path) -> int:
    found = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):  # removed, or renamed when it was finished
                found += os.stat(os.path.join(place, name)).st_blocks * BLOCK  # noqa: PTH116, PTH118  # often
    return found


@contextmanager
def looking(root: Path, *others: str) -> Iterator[OnDisk]:
    """Look at a directory of blobs until the end of the block, without the parts of other tenants."""
    found, stop = OnDisk(root, frozenset(tenant_prefix(one) for one in others)), threading.Event()

    def run() -> None:
        while not stop.wait(TICK):
            found.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


@attrs.define
class Seen:
    """Samples of one run.

    Attributes:
        latencies: Seconds of each of B's answers, by kind.
        memory: Most resident bytes of the server.
        failed: B's requests that were refused, or failed.
    """

    latencies: dict[str, Sequence[float]]
    memory: int
    failed: int

    def at(self, kind: str, share: float) -> float:
        """Return a percentile of the latencies of a kind, in milliseconds."""
        ordered = sorted(self.latencies[kind])
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / MS


@attrs.frozen
class Bench:
    """Runs both halves of the comparison.

    Attributes:
        warehouse: Directory of the table's warehouse.
        scratch: A directory for servers.
        quota: A's quota, in bytes.
        largest: Rows of A's largest result; each is a row smaller than the one before.
    """

    warehouse: Path
    scratch: Path
    quota: int
    largest: int

    @contextmanager
    def server(self, name: str) -> Iterator[servers.Target]:
        """Run a server that both tenants have used, and that has the table in A's cache."""
        config = CONFIG.format(quota=self.quota)
        with servers.strata(self.scratch / name, self.warehouse, more=config) as target:
            uri = tables.uri_of(self.warehouse)
            for tenant, params in ((QUIET, workload.SMALL), (LOUD, {"limit": self.largest})):
                with servers.Target(target.url, clients.identity(tenant, "ana")).connect() as connection:
                    workload.settle(connection, uri, params)
            yield target

    def alone(self, name: str, seconds: float) -> Seen:
        """Measure B alone."""
        with self.server(name) as target:
            return self._quiet(target, seconds)

    def beside(self, name: str, seconds: float) -> tuple[Seen, OnDisk, clients.Outcome]:
        """Measure B beside A; returns also what A took on the disk, and what its requests came to."""
        with self.server(name) as target:
            blobs = self.scratch / name / "artifacts" / "blobs"
            tasks = [
                clients.Task(
                    "writes", target.url, clients.identity(LOUD, f"writer{number}"),
                    tables.uri_of(self.warehouse), {"limit": self.largest - number, "step": WRITERS},
                    seconds=seconds,
                )
                for number in range(WRITERS)
            ]  # fmt: skip
            with clients.client_process(tasks, background=True) as loud, looking(blobs, QUIET) as disk:
                loud.go()
                seen = self._quiet(target, seconds)
                found = loud.outcomes()
        total = clients.Outcome(
            answered=sum(one.answered for one in found),
            refused=sum(one.refused for one in found),
            failed=sum(one.failed for one in found),
            size=sum(one.size for one in found),
        )
        return seen, disk, total

    def _quiet(self, target: servers.Target, seconds: float) -> Seen:
        uri = tables.uri_of(self.warehouse)
        kinds = ("builds", "pairs")
        tasks = [
            clients.Task(kind, target.url, clients.identity(QUIET, "ana"), uri, workload.SMALL, RATE, seconds)
            for kind in kinds
        ]
        with clients.client_process(tasks, background=False) as quiet:
            quiet.go()
            found = quiet.outcomes()
        latencies = {kind: one.latencies for kind, one in zip(kinds, found, strict=True)}
        return Seen(latencies, target.memory(), sum(one.failed for one in found))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the figures; returns 1 with ``--check`` if an aim is missed or B was refused."""
    options = _parser().parse_args(arguments)
    lone: list[Seen] = []
    both: list[Seen] = []
    disks: list[OnDisk] = []
    with tempfile.TemporaryDirectory(prefix="strata-bench-", dir=options.directory) as directory:
        scratch = Path(directory)
        warehouse = (options.data or scratch / "warehouse").resolve()
        tables.generate(warehouse, options.rows)
        bench = Bench(warehouse, scratch, int(options.quota_mb * MB), options.result_rows)
        for number in range(options.runs):
            lone.append(bench.alone(f"alone-{number}", options.alone_seconds))
            seen, disk, loud = bench.beside(f"beside-{number}", options.seconds)
            both.append(seen)
            disks.append(disk)
            print(
                f"run {number + 1}: A had {loud.answered:,} results of {loud.size / MB:,.0f} MB, "
                f"{loud.refused:,} refusals and {loud.failed:,} broken answers; "
                f"its files were seen {disk.looks:,} times",
                file=sys.stderr,
            )
    lines = [
        figures.Figure(
            "A's files on the disk, at most", "its quota", "MB", [disk.most / MB for disk in disks],
            [options.quota_mb] * len(disks), 1.0, "≤",
        ),
        *(
            figures.Figure(
                f"p{share * 100:g} of B's {what}", "alone", "ms", [one.at(kind, share) for one in both],
                [one.at(kind, share) for one in lone], AIM, "≤",
            )
            for kind, what in (("builds", "small builds"), ("pairs", "finished result"))
            for share in (0.5, 0.99)
        ),
        figures.Figure(
            "memory of the server", "with B alone", "MB", [one.memory / MB for one in both],
            [one.memory / MB for one in lone], AIM, "≤",
        ),
    ]  # fmt: skip
    failed = sum(one.failed for one in (*lone, *both))
    missed = figures.report(lines, options, {"requests of B that were refused or failed": failed})
    return 1 if options.check and failed else missed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nox -s bench_storage --", description="Measure a tenant that writes as fast as it can."
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table (%(default)s)")
    parser.add_argument(
        "--result-rows", type=int, default=150_000, help="rows of A's largest result (%(default)s)"
    )
    figures.add_options(parser)
    parser.add_argument("--quota-mb", type=float, default=500.0, help="A's quota, in megabytes (%(default)s)")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long A writes (%(default)s)")
    parser.add_argument("--alone-seconds", type=float, default=30.0, help="how long B is alone (%(default)s)")
    parser.add_argument("--data", type=Path, help="where to keep the generated table (a temporary directory)")
    parser.add_argument("--directory", help="where the servers' files are")
    return parser


if __name__ == "__main__":
    sys.exit(main())
