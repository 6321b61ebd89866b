"""Measure pairs per second: materialize and fetch of a small finished result, by each way to a server.

Ways: direct and through nginx as it is shipped, each also in one round trip (by ``Accept``), and
through nginx with accelerated results. Then eight tenants on two servers instead of one: through nginx,
which places each tenant on a server by consistent hash, and direct, with each tenant's connections at its
server. That is what any other way to share a machine among processes could reach at best.

Clients, nginx and servers share the cores of this machine. The processor time of each is measured with every
figure, and gives the bound of what two servers can show here: a client that takes the second core takes it
from the second server. So do other programs, whose processor time is measured, too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import attrs
import proxies
import servers
import tables
import wire
import workload

import strata

CLIENTS = (1, 8, 64)
TENANTS = 8
"""Tenants of all scenes: with eight, both servers have some."""

AIM = 1.7
OTHERS = 0.2
"""Cores of other programs beyond which two servers have none of their own."""

WARM_SECONDS = 0.3
ROWS = 20_000
ARROW = "application/vnd.apache.arrow.stream"


@attrs.frozen
class Way:
    """A way from clients to servers.

    Attributes:
        name: Its name.
        ports: For each tenant the port that its clients connect to.
        servers: The processes of the servers.
        proxy: The process of nginx; None: there is none.
        steps: Requests of a pair: 2, or 1 for one round trip.
    """

    name: str
    ports: Sequence[int]
    servers: Sequence[int]
    proxy: int | None = None
    steps: int = 2


@attrs.define
class Samples:
    """What was measured of a way with a number of clients: a value for each run.

    Attributes:
        rate: Pairs a second.
        p50: Milliseconds of a pair, the median.
        p99: Milliseconds of a pair, the 99th percentile.
        server: Milliseconds of the servers' processor time for each pair.
        proxy: The same of nginx.
        client: The same of the client.
        others: Cores that other programs of the machine had meanwhile.
    """

    rate: list[float] = attrs.field(factory=list)
    p50: list[float] = attrs.field(factory=list)
    p99: list[float] = attrs.field(factory=list)
    server: list[float] = attrs.field(factory=list)
    proxy: list[float] = attrs.field(factory=list)
    client: list[float] = attrs.field(factory=list)
    others: list[float] = attrs.field(factory=list)

    def medians(self) -> dict[str, float]:
        """Return the median of each."""
        return {name: median(values) for name, values in attrs.asdict(self).items()}


Found = dict[tuple[str, int], Samples]


def tenant(number: int) -> str:
    return f"team-{number}"


def head(path: str, number: int, *, body: bytes = b"", more: str = "") -> str:
    """Return a whole request of a tenant; nginx takes the tenant from a header of the bench's own."""
    identity = servers.IDENTITY | {"X-Tenant-ID": tenant(number), "X-Bench-Tenant": tenant(number)}
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in identity.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines) + f"\r\n{more}\r\n{body.decode()}"


def prepare(target: servers.Target, uri: str, number: int, steps: int) -> list[str]:
    """Have a tenant's result finished on a server, and return the requests of a pair for it."""
    who = attrs.evolve(target, headers={**target.headers, "X-Tenant-ID": tenant(number)})
    with who.connect() as connection:
        workload.settle(connection, uri, workload.SMALL)
        url = workload.materialize(connection, uri, workload.SMALL)["stream_url"]
    body = {"inputs": [uri], "transform": {"executor": "scan@v1", "params": workload.SMALL}, "mode": "stream"}
    data = json.dumps(body).encode()
    if steps == 1:
        return [head("/v1/materialize", number, body=data, more=f"Accept: {ARROW}\r\n")]
    return [head("/v1/materialize", number, body=data), head(url, number)]


def busy_seconds() -> float:
    """Return the processor time of all programs so far, and what a host has taken."""
    user, nice, system, _idle, _wait, *more = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(more)) / proxies.TICK


def measure(way: Way, requests: Sequence[list[str]], clients: int, seconds: float, into: Samples) -> None:
    """Send pairs for some seconds, and add what was measured."""
    job = {
        "clients": clients,
        "warm": WARM_SECONDS,
        "seconds": seconds,
        "tenants": [["127.0.0.1", port, one] for port, one in zip(way.ports, requests, strict=True)],
    }
    processes = [*way.servers, *([way.proxy] if way.proxy else [])]
    client = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("pair_client.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(json.dumps(job))
    client.stdin.close()
    client.stdout.readline()  # it has begun
    before, busy = [proxies.seconds_of(one) for one in processes], busy_seconds()
    answer = client.stdout.readline()
    spent = [proxies.seconds_of(one) - had for one, had in zip(processes, before, strict=True)]
    busy = busy_seconds() - busy
    if client.wait() or not answer:
        raise wire.WireError(f"the clients of {way.name} failed")
    found: dict[str, Any] = json.loads(answer)
    took, count = found["pairs"], len(found["pairs"])
    if not count:
        raise wire.WireError(f"no pair of {way.name} ended within {seconds:g} s")
    into.rate.append(count / found["seconds"])
    into.p50.append(took[count // 2] * 1000)
    into.p99.append(took[min(count - 1, count * 99 // 100)] * 1000)
    into.server.append(sum(spent[: len(way.servers)]) / count * 1000)
    into.proxy.append(sum(spent[len(way.servers) :]) / count * 1000)
    into.client.append(found["cpu"] / count * 1000)
    into.others.append(max(0.0, busy - sum(spent) - found["cpu"]) / found["seconds"])


def bound(two: Samples, one: Samples, cores: int) -> float:
    """Return how many times the pairs of one server two could answer here, beside their clients and alone.

    By processor time: one server has at most one core, two have what nginx and clients leave of all.
    """
    of = two.medians()
    return min(2.0, cores * median(one.server) / (of["server"] + of["proxy"] + of["client"]))


def report(found: Found, cores: int) -> str:
    """Return the Markdown report: a table, then the aims with their bounds."""
    lines = [
        "| way | clients | pairs/s | p50 ms | p99 ms | server ms | nginx ms | client ms | others' cores |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, clients), samples in found.items():
        of = samples.medians()
        times = " | ".join(f"{of[key]:.2f}" for key in ("p50", "p99", "server", "proxy", "client", "others"))
        lines.append(f"| {name} | {clients} | {of['rate']:,.0f} | {times} |")
    lines += ["", f"Two servers against one, aim ≥ {AIM:g}:", ""]
    lines += [f"- {line}" for line in aims(found, cores)]
    return "\n".join(lines)


def aims(found: Found, cores: int) -> list[str]:
    """Return a line for each comparison of two servers with one."""
    lines = []
    for name, base in (("nginx, two servers", "nginx"), ("direct, two servers", "direct")):
        for clients in sorted({number for _, number in found}):
            two, one = found.get((name, clients)), found.get((base, clients))
            if two is None or one is None:
                continue
            ratio = median(b / a for a, b in zip(one.rate, two.rate, strict=True))
            most, others = bound(two, one, cores), max(median(one.others), median(two.others))
            verdict = "met" if ratio >= AIM else "missed"
            if others > OTHERS:
                verdict = f"cannot be shown here, other programs had {others:.2f} cores"
            elif ratio < AIM > most:
                verdict = "cannot be shown here"
            lines.append(f"{name}, {clients} clients: {ratio:.2f}; these cores allow {most:.2f}: {verdict}")
    return lines


def ways_of(
    stack: ExitStack, scratch: Path, warehouse: Path, uri: str, *, proxied: bool
) -> dict[Way, list[list[str]]]:
    """Start all servers, and return the ways to them, each with its tenants' requests."""
    accelerated = 'accel_redirect = "/_strata/results"\n'
    one, fast, left, right = (
        stack.enter_context(servers.strata(scratch / name, warehouse, settings=more))
        for name, more in (("one", ""), ("fast", accelerated), ("left", ""), ("right", ""))
    )
    pids = {target.url: target.pid or 0 for target in (one, fast, left, right)}

    def port(target: servers.Target) -> int:
        return int(target.url.rpartition(":")[2])

    def direct(name: str, targets: Sequence[servers.Target], steps: int = 2) -> None:
        chosen = [targets[number % len(targets)] for number in range(TENANTS)]
        way = Way(name, tuple(map(port, chosen)), tuple(pids[target.url] for target in targets), None, steps)
        found[way] = [prepare(target, uri, number, steps) for number, target in enumerate(chosen)]

    def through(name: str, targets: Sequence[servers.Target], place: str, steps: int = 2) -> None:
        artifacts = scratch / place / "artifacts"
        listening, worker = stack.enter_context(
            proxies.nginx(scratch / name.replace(" ", "-"), targets, artifacts)
        )
        by_nginx = servers.Target(f"http://127.0.0.1:{listening}", {})
        way = Way(name, (listening,) * TENANTS, tuple(pids[target.url] for target in targets), worker, steps)
        found[way] = []
        for number in range(TENANTS):
            who = attrs.evolve(by_nginx, headers={"X-Bench-Tenant": tenant(number)})
            found[way].append(prepare(who, uri, number, steps))

    found: dict[Way, list[list[str]]] = {}
    direct("direct", [one])
    direct("direct, one round trip", [one], 1)
    direct("direct, two servers", [left, right])
    if proxied:
        through("nginx", [one], "one")
        through("nginx, one round trip", [one], "one", 1)
        through("nginx, accelerated", [fast], "fast")
        through("nginx, two servers", [left, right], "left")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    options = _parser().parse_args(arguments)
    found: Found = defaultdict(Samples)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strata-bench-")))
        scratch.chmod(0o755)
        warehouse = scratch / "warehouse"
        tables.generate(warehouse, ROWS)
        ways = ways_of(stack, scratch, warehouse, tables.uri_of(warehouse), proxied=not options.direct)
        for number in range(options.runs):
            for clients in options.clients:
                for way, requests in ways.items():
                    measure(way, requests, clients, options.seconds, found[way.name, clients])
            print(f"run {number + 1} of {options.runs} done", file=sys.stderr)
    cores = os.cpu_count() or 1
    about = {
        "runs": options.runs, "seconds": options.seconds, "cores": cores, "python": platform.python_version(),
        "strata": strata.__version__, "time": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    if options.json:
        samples = [
            {"way": name, "clients": count, **attrs.asdict(one)} for (name, count), one in found.items()
        ]
        print(json.dumps({**about, "samples": samples, "aims": aims(found, cores)}, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in about.items()))
        print(f"\n{report(found, cores)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s bench_pairs --", description="Measure small requests.")
    parser.add_argument("--runs", type=int, default=5, help="how often everything is measured (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (%(default)s)")
    parser.add_argument(
        "--clients", type=int, nargs="+", default=list(CLIENTS), help="connections at a time (%(default)s)"
    )
    parser.add_argument("--direct", action="store_true", help="leave nginx out")
    parser.add_argument("--json", action="store_true", help="print JSON, samples included")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except wire.WireError as error:
        sys.exit(f"bench: {error}")
