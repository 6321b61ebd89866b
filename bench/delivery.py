"""Measure large finished results by each way to a client, beside what nginx and the kernel do without Strata.

Ways: Strata sends the file itself; nginx passes on what Strata sends; nginx sends the file that Strata names
(accelerated); nginx fetches it from an object store by an address that Strata signs. Beside them, in the same
run: nginx sends the same file as a static one, a bare socket sends the same bytes, the object store gives
them by a signed address. The processor time of Strata's process, per request, is measured with each, beyond
what the idle server takes meanwhile (a request takes as long as its transfer).

The object store is moto, in Python, which bounds what nginx fetches from it: only the ratio says something.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from importlib.util import find_spec
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median

import attrs
import figures
import proxies
import servers
import tables
import wire
import workload

ROWS = 2_000_000
REQUESTS = 20
BUCKET_REQUESTS = 3
"""Results that an object store in Python gives for each figure."""

IDLE_SECONDS = 1.0
"""Seconds for which an idle server is looked at."""

MB = 1e6
CPU_AIM = 3.0
"""Milliseconds of Strata's processor time for an accelerated request."""

STATIC = """\
        location /static/ {{ alias {blobs}/; sendfile on; }}
"""
OBJECTS = """\
        include strata_objects.conf;
        location /_strata/problem {{ internal; return 503; }}
"""
S3 = """\
accel_redirect = "/_strata/objects"
artifact_presigned_seconds = 600
artifact_blob_backend = "s3"
artifact_s3_bucket = "results"
s3_endpoint_url = "{address}"
s3_region = "us-east-1"
s3_access_key = "k"
s3_secret_key = "s"
"""


@attrs.frozen
class Way:
    """A way to the bytes of a result.

    Attributes:
        name: Its name.
        target: Whom to ask.
        path: What to ask for.
        server: The process of Strata whose time is measured; None: none has a part in it.
        requests: Requests of a measurement.
    """

    name: str
    target: servers.Target
    path: str
    server: int | None = None
    requests: int = REQUESTS


def measure(way: Way, size: int) -> tuple[float, float]:
    """Read the result by a way, again and again.

    Returns:
        Megabytes a second, the median of the requests, and milliseconds of Strata's processor time a request.

    Raises:
        WireError: If it is not the whole result.
    """
    idle = idle_share(way.server) if way.server else 0.0
    before, start = proxies.seconds_of(way.server) if way.server else 0.0, time.perf_counter()
    took = []
    for _ in range(way.requests):
        # A connection each: the object store of the bench gives one answer on a connection.
        with way.target.connect() as connection:
            began = time.perf_counter()
            reply = connection.get(way.path)
        took.append(reply.last_byte - began)
        if (reply.status, reply.size) != (200, size):
            raise wire.WireError(f"{way.name} answers {reply.status} with {reply.size} bytes of {size}")
    spent = 0.0
    if way.server:
        spent = proxies.seconds_of(way.server) - before - idle * (time.perf_counter() - start)
    return size / MB / median(took), spent * 1000 / way.requests


def idle_share(server: int) -> float:
    """Return the part of a processor that an idle server takes."""
    before, start = proxies.seconds_of(server), time.perf_counter()
    time.sleep(IDLE_SECONDS)
    return (proxies.seconds_of(server) - before) / (time.perf_counter() - start)


def finished(target: servers.Target, uri: str) -> str:
    """Have the full scan of a table finished, and return the path of its bytes."""
    with target.connect() as connection:
        workload.settle(connection, uri, workload.FULL)
        return str(workload.materialize(connection, uri, workload.FULL)["stream_url"])


def local_ways(stack: ExitStack, scratch: Path, warehouse: Path, uri: str) -> list[Way]:
    """Start what sends a local file, and return the ways to it."""
    accelerated = 'accel_redirect = "/_strata/results"\n'
    one = stack.enter_context(servers.strata(scratch / "one", warehouse))
    fast = stack.enter_context(servers.strata(scratch / "fast", warehouse, settings=accelerated))
    found = [Way("Strata", one, finished(one, uri), one.pid)]
    for name, target in (("nginx", one), ("nginx, accelerated", fast)):
        artifacts = scratch / ("one" if target is one else "fast") / "artifacts"
        base = scratch / name.replace(", ", "-")
        static = STATIC.format(blobs=artifacts / "blobs")
        port, _ = stack.enter_context(proxies.nginx(base, [target], artifacts, static))
        through = servers.Target(f"http://127.0.0.1:{port}", {"X-Bench-Tenant": "bench"})
        found.append(Way(name, through, finished(through, uri), target.pid))
        if target is fast:
            file = max((artifacts / "blobs").rglob("*.arrow"), key=lambda path: path.stat().st_size)
            path = f"/static/{file.relative_to(artifacts / 'blobs')}"
            found.append(Way("nginx, static file", through, path))
            bare = stack.enter_context(servers.bare("bare_socket", file.read_bytes(), scratch / "bare"))
            found.append(Way("bare socket", bare, "/"))
    return found


def bucket_ways(stack: ExitStack, scratch: Path, warehouse: Path, uri: str) -> list[Way]:
    """Start an object store and what fetches from it, and return the ways to a result there."""
    import obstore  # noqa: PLC0415  # of the session's packages, not of a Strata without an object store
    from obstore.store import S3Store  # noqa: PLC0415

    address = stack.enter_context(object_store())
    urllib.request.urlopen(urllib.request.Request(f"{address}/results", method="PUT")).close()
    server = stack.enter_context(
        servers.strata(scratch / "bucket", warehouse, settings=S3.format(address=address))
    )
    port, _ = stack.enter_context(
        proxies.nginx(scratch / "nginx-bucket", [server], scratch / "bucket" / "artifacts", OBJECTS.format())
    )
    through = servers.Target(f"http://127.0.0.1:{port}", {"X-Bench-Tenant": "bench"})
    path = finished(through, uri)
    store = S3Store(
        "results", endpoint=address, region="us-east-1", access_key_id="k", secret_access_key="s",
        client_options={"allow_http": True},
    )  # fmt: skip
    objects = [one for page in obstore.list(store) for one in page]
    key = max(objects, key=lambda one: one["size"])["path"]
    signed = obstore.sign(store, "GET", key, timedelta(hours=1)).removeprefix(address)
    return [
        Way("nginx, from the bucket", through, path, server.pid, BUCKET_REQUESTS),
        Way("the bucket", servers.Target(address, {}), signed, None, BUCKET_REQUESTS),
    ]


@contextmanager
def object_store() -> Iterator[str]:
    """Run moto in a process of its own; yields its address."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_moto, args=(theirs,), daemon=True)
    process.start()
    try:
        if not ours.poll(servers.READY_SECONDS):
            raise wire.WireError("the object store did not start")
        yield ours.recv()
    finally:
        process.terminate()
        process.join(servers.STOP_SECONDS)


def _moto(started: Pipe) -> None:
    import logging  # noqa: PLC0415
    import threading  # noqa: PLC0415

    from moto.server import ThreadedMotoServer  # noqa: PLC0415  # a package of the session, in its process alone

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    started.send("http://{}:{}".format(*server.get_host_and_port()))
    threading.Event().wait()


def figures_of(rates: dict[str, list[float]], cpu: dict[str, list[float]]) -> list[figures.Figure]:
    """Return the figures of what was measured."""
    static, fast = "nginx, static file", "nginx, accelerated"
    pairs = [(fast, static, 0.95), ("nginx", static, None), ("Strata", "bare socket", None)]
    if "the bucket" in rates:
        pairs.append(("nginx, from the bucket", "the bucket", None))
    found = [figures.Figure(name, base, "MB/s", rates[name], rates[base], aim) for name, base, aim in pairs]
    for name in [name for name in cpu if any(cpu[name])]:
        aim = CPU_AIM if name == fast else None
        against = [CPU_AIM] * len(cpu[name])
        what = "Strata's processor time"
        found.append(figures.Figure(f"{what}, {name}", "3 ms", "ms", cpu[name], against, aim and 1, "≤"))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    options = _parser().parse_args(arguments)
    rates, cpu = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strata-bench-")))
        scratch.chmod(0o755)
        warehouse = scratch / "warehouse"
        print(f"writing {options.rows:,} rows", file=sys.stderr)
        tables.generate(warehouse, options.rows)
        uri = tables.uri_of(warehouse)
        ways = local_ways(stack, scratch, warehouse, uri)
        if find_spec("moto") and find_spec("obstore"):
            ways += bucket_ways(stack, scratch, warehouse, uri)
        else:
            print("without an object store: moto and obstore are not installed", file=sys.stderr)
        with ways[0].target.connect() as connection:
            size = connection.get(ways[0].path).size
        for number in range(options.runs):
            for way in ways:
                rate, spent = measure(attrs.evolve(way, requests=min(way.requests, options.requests)), size)
                rates[way.name].append(rate)
                cpu[way.name].append(spent)
            print(f"run {number + 1} of {options.runs} done", file=sys.stderr)
    print(f"a result of {size / MB:,.0f} MB", file=sys.stderr)
    return figures.report(figures_of(rates, cpu), options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s bench_delivery --", description="Measure large results.")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the generated table (%(default)s)")
    figures.add_options(parser)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each measurement (%(default)s)")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except wire.WireError as error:
        sys.exit(f"bench: {error}")
