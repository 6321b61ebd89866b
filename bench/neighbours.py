"""Measure how other tenants affect a tenant: its latencies alone, and beside tenants that use all they can.

Six scenes, each measured on fresh servers several times over, in this order: the quiet tenants alone, the
loud ones alone, both together.

- ``bulk``: tenant B fetches a small finished result while tenant A runs eight distinct cold full scans of
  eight principals.
- ``fifty``: the same with 50 tenants, of which 5 misbehave: each runs eight such scans.
- ``flood``: tenant A sends valid and invalid requests over 64 connections as fast as they are answered.
- ``mixed``: both at once: of 50 tenants two scan, four at a time each, and three flood over 16 connections
  each. It has no aim, and shows all effects together.
- ``loop``: tenant B asks for ``/v1/me`` while tenant A sends the most expensive requests that the limits
  allow over four connections: 10,000 values, 1,000 filters, 10,000 columns, long names, listings of 50,000
  results.
- ``hung``: tenant B fetches a small finished result while three tenants ask for tables behind a catalog, a
  database and a store that do not answer, over sixteen connections each.

Rate limits have their defaults. The loud tenants' clients run at a lower priority: they would be on other
machines, and only the server is measured. Both halves of a ratio are of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import figures
import hung
import machine
import neighbour_clients as clients
import picture
import servers
import tables
import workload

ROWS = 5_000_000
MB = 1e6
MS = 1e-3
AIM_P99 = 3.0
AIM_HUNG_P99 = 1.5
AIM_KEEP = 0.8
COLUMNS = ("id", "at", "day", "city", "label", "kind", "value", "price", "ratio", "ok")
SCANS = 8
CONNECTIONS = 64
WAITING = 16
HOGS = 4
RESULTS = 50_000
ABOVE_BUDGET = 150_000_000
"""Most bytes of memory of a server above its budget."""
REST = 20.0
"""Seconds of rest before each phase.

A virtual machine reports memory that the last phase freed to its host some seconds later (free page
reporting), and pauses for up to half a second at a time while the host takes it back.
"""


@attrs.frozen
class Scene:
    """A scene: its tenants and their load.

    Attributes:
        name: Its name.
        title: Title of its picture.
        quiet: Tenants that fetch small results, in order.
        rate: Pairs per second of each quiet tenant.
        scanning: Tenants, and how many distinct full scans each runs at a time.
        flooding: Tenants, and how many connections each floods.
        hogging: Tenants, and over how many connections each sends expensive requests.
        waiting: Tenants, and over how many connections each asks for tables behind parts that hang.
        kind: What the quiet tenants ask for: ``pairs`` or ``me``.
        aim: Most p99 of the quiet, as a multiple of their p99 alone.
        aimed: The scene has aims.
        budget: ``memory_budget_bytes``; 0: its default. With one, the server's memory has an aim:
            :data:`ABOVE_BUDGET` more.
    """

    name: str
    title: str
    quiet: tuple[str, ...]
    rate: float
    scanning: tuple[tuple[str, int], ...] = ()
    flooding: tuple[tuple[str, int], ...] = ()
    hogging: tuple[tuple[str, int], ...] = ()
    waiting: tuple[tuple[str, int], ...] = ()
    kind: str = "pairs"
    aim: float = AIM_P99
    aimed: bool = True
    budget: int = 0


FIFTY = tuple(f"quiet{number}" for number in range(45))
FIFTY_RATE = 1.5

SCENES = (
    Scene("bulk", "A tenant beside eight cold full scans of another", ("b",), 40.0, scanning=(("a", SCANS),)),
    Scene(
        "fifty",
        "45 tenants beside eight cold full scans of each of five others",
        FIFTY,
        FIFTY_RATE,
        scanning=tuple((f"loud{number}", SCANS) for number in range(5)),
    ),
    Scene(
        "flood", "A tenant beside a flood over 64 connections", ("b",), 40.0, flooding=(("a", CONNECTIONS),)
    ),
    Scene(
        "mixed",
        "45 tenants beside two that scan and three that flood",
        FIFTY,
        FIFTY_RATE,
        scanning=(("loud0", 4), ("loud1", 4)),
        flooding=(("loud2", 16), ("loud3", 16), ("loud4", 16)),
        aimed=False,
    ),
    Scene(
        "loop",
        "A tenant beside the most expensive requests of another",
        ("b",),
        40.0,
        hogging=(("a", HOGS),),
        kind="me",
        budget=256 << 20,
    ),
    Scene(
        "hung",
        "A tenant beside three whose catalog, database and store hang",
        ("b",),
        40.0,
        waiting=(("a0", WAITING), ("a1", WAITING), ("a2", WAITING)),
        aim=AIM_HUNG_P99,
    ),
)


@attrs.define
class Seen:
    """Samples of one scene, one per run.

    Attributes:
        alone: Latencies of the quiet tenants alone, in seconds.
        together: Latencies of the quiet tenants beside the loud ones, in seconds.
        stolen: Shares of the machine that its host took, one per phase.
        solo_rates: Bytes per second of the loud tenants alone.
        kept_rates: Bytes per second of the loud tenants beside the quiet ones.
        failed: Failed requests of the quiet tenants.
        memory: Most resident bytes of the server with all tenants, without its readers.
        refused: Refused requests of the loud tenants.
        answered: Answered requests of the loud tenants.
    """

    alone: list[list[float]] = attrs.field(factory=list)
    together: list[list[float]] = attrs.field(factory=list)
    stolen: list[float] = attrs.field(factory=list)
    solo_rates: list[float] = attrs.field(factory=list)
    kept_rates: list[float] = attrs.field(factory=list)
    memory: list[int] = attrs.field(factory=list)
    failed: int = 0
    refused: int = 0
    answered: int = 0


class Bench:
    """Runs scenes.

    Args:
        warehouse: Directory of the table's warehouse.
        scratch: A directory for servers.
        seconds: Seconds for which quiet tenants are measured, alone and beside a flood.
        rest: Seconds of rest before each phase.
    """

    def __init__(self, warehouse: Path, scratch: Path, seconds: float, rest: float = 0.0) -> None:
        self._uri = tables.uri_of(warehouse)
        self._warehouse = warehouse
        self._scratch = scratch
        self._seconds = seconds
        self._rest = rest
        self._hung: tuple[str, ...] = ()

    def measure(self, scene: Scene, seen: Seen) -> None:
        """Measure one scene once."""
        seconds = self._seconds
        with (
            self._server(scene) as target,
            self._quiet(scene, target, seconds) as quiet,
            machine.stolen(seen.stolen),
        ):
            quiet.go()
            alone = quiet.outcomes()
        seen.alone.append([each for found in alone for each in found.latencies])
        if scene.scanning:
            with (
                self._server(scene) as target,
                self._loud(scene, target, seconds) as loud,
                machine.stolen(seen.stolen),
            ):
                loud.go()
                solo = [found for found in loud.outcomes() if found.size]
            seen.solo_rates.append(_rate(solo))
            seconds = max(found.seconds for found in solo)
        with (
            self._server(scene) as target,
            self._quiet(scene, target, seconds) as quiet,
            self._loud(scene, target, seconds) as loud,
            machine.stolen(seen.stolen),
        ):
            loud.go()
            quiet.go()
            beside, others = quiet.outcomes(), loud.outcomes()
            seen.memory.append(target.memory())
        seen.together.append([each for found in beside for each in found.latencies])
        seen.failed += sum(found.failed for found in (*alone, *beside))
        seen.refused += sum(found.refused for found in others)
        seen.answered += sum(found.answered for found in others)
        if scene.scanning:
            seen.kept_rates.append(_rate([found for found in others if found.size]))

    @contextmanager
    def _server(self, scene: Scene) -> Iterator[servers.Target]:
        time.sleep(self._rest)
        with (
            tempfile.TemporaryDirectory(prefix="run-", dir=self._scratch) as base,
            hung.hung_parts(Path(base) / "hung", self._warehouse, "bench.events") as parts,
            servers.strata(
                Path(base),
                self._warehouse,
                limited=True,
                budget=scene.budget,
                more=parts.config if scene.waiting else "",
            ) as target,
        ):
            self._hung = parts.tables
            for tenant in (*scene.quiet, *(name for name, _ in scene.flooding)):
                with servers.Target(target.url, clients.identity(tenant, "ana")).connect() as connection:
                    workload.settle(connection, self._uri, workload.SMALL)
            for tenant, _ in scene.scanning:
                # As in run.py: exclude Python's imports and the first use of memory.
                with servers.Target(target.url, clients.identity(tenant, "ana")).connect() as connection:
                    warm_up = tables.uri_of(self._warehouse, tables.WARM_UP)
                    workload.settle(connection, warm_up, workload.FULL)
            for tenant, _ in scene.hogging:
                tables.fill_store(Path(base) / "artifacts" / "metadata.db", tenant, self._uri, RESULTS)
            yield target

    @contextmanager
    def _quiet(self, scene: Scene, target: servers.Target, seconds: float) -> Iterator[clients.ClientProcess]:
        tasks = [
            self._task(scene.kind, target, tenant, "ana", workload.SMALL, rate=scene.rate, seconds=seconds)
            for tenant in scene.quiet
        ]
        with clients.client_process(tasks, background=False) as running:
            yield running

    @contextmanager
    def _loud(self, scene: Scene, target: servers.Target, seconds: float) -> Iterator[clients.ClientProcess]:
        tasks = [
            # All columns but one, a different one each: no scan is answered from another's cache.
            self._task("scan", target, tenant, f"scanner{number}", {"columns": _all_but(number)})
            for tenant, count in scene.scanning
            for number in range(count)
        ]
        for tenant, count in scene.flooding:
            for number in range(count):
                params = workload.SMALL if number % 2 else {"columns": ["no_such_column"]}
                who = f"flooder{number % SCANS}"
                tasks.append(self._task("flood", target, tenant, who, params, seconds=seconds))
        wide = {"uri": tables.uri_of(self._warehouse, tables.WIDE)}
        for tenant, count in scene.hogging:
            tasks += [
                self._task("hog", target, tenant, f"hog{number}", wide, seconds=seconds)
                for number in range(count)
            ]
        for tenant, count in scene.waiting:
            uri = self._hung[len(tasks) // WAITING % len(self._hung)]
            tasks += [
                attrs.evolve(
                    self._task("flood", target, tenant, f"waiter{number}", {}, seconds=seconds), uri=uri
                )
                for number in range(count)
            ]
        with clients.client_process(tasks, background=True) as running:
            yield running

    def _task(
        self, kind: str, target: servers.Target, tenant: str, who: str, params: dict[str, Any], **more: float
    ) -> clients.Task:
        return clients.Task(kind, target.url, clients.identity(tenant, who), self._uri, params, **more)


def _all_but(number: int) -> list[str]:
    return [column for column in COLUMNS if column != COLUMNS[number % len(COLUMNS)]]


def _rate(outcomes: Sequence[clients.Outcome]) -> float:
    """Return the bytes per second of scans that started together, until the last one ended."""
    return sum(found.size for found in outcomes) / max(found.seconds for found in outcomes)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figures_of(scene: Scene, seen: Seen) -> list[figures.Figure]:
    """Return the scene's lines of the table."""
    found = []
    for share, aim in ((0.5, None), (0.99, scene.aim)):
        alone, beside = (
            [percentile(run, share) / MS for run in runs] for runs in (seen.alone, seen.together)
        )
        name = f"{scene.name}: p{share * 100:g} of the quiet"
        found.append(
            figures.Figure(name, "the same, alone", "ms", beside, alone, aim if scene.aimed else None, "≤")
        )
    if scene.scanning:
        kept, solo = ([rate / MB for rate in rates] for rates in (seen.kept_rates, seen.solo_rates))
        name = f"{scene.name}: throughput of the loud"
        found.append(
            figures.Figure(
                name, "the same, alone", "MB/s", kept, solo, AIM_KEEP if scene.aimed else None, "≥"
            )
        )
    if scene.budget:
        most = [size / MB for size in seen.memory]
        allowed = [(scene.budget + ABOVE_BUDGET) / MB] * len(most)
        name = f"{scene.name}: memory of the server"
        found.append(figures.Figure(name, "its budget and 150 MB", "MB", most, allowed, 1.0, "≤"))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    options = _parser().parse_args(arguments)
    scenes = [scene for scene in SCENES if not options.scene or scene.name in options.scene]
    samples: defaultdict[str, Seen] = defaultdict(Seen)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strata-bench-")))
        warehouse = (options.data or scratch / "warehouse").resolve()
        print(f"writing {options.rows:,} rows", file=sys.stderr)
        tables.generate(warehouse, options.rows)
        if any(scene.hogging for scene in scenes):
            tables.generate_wide(warehouse)
        bench = Bench(warehouse, scratch, options.seconds, options.rest)
        for number in range(options.runs):
            for scene in scenes:
                bench.measure(scene, samples[scene.name])
                print(f"run {number + 1} of {options.runs}: {scene.name} done", file=sys.stderr)
    lines = [line for scene in scenes for line in figures_of(scene, samples[scene.name])]
    failed = sum(seen.failed for seen in samples.values())
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for scene in scenes:
            _draw(scene, samples[scene.name], options.pictures / f"neighbours-{scene.name}.svg")
    if options.json:
        stolen = {name: seen.stolen for name, seen in samples.items()}
        found = {"figures": [line.as_json() for line in lines], "failed": failed, "stolen": stolen}
        print(json.dumps(found, indent=2))
    else:
        print(f"rows: {options.rows}\nruns: {options.runs}\ncores: {os.cpu_count()}")
        print(f"python: {platform.python_version()}\n\n{figures.table(lines)}\n")
        for scene in scenes:
            seen = samples[scene.name]
            print(
                f"{scene.name}: {seen.failed} requests of the quiet failed; of the loud, "
                f"{seen.answered:,} were answered and {seen.refused:,} refused"
            )
            print(
                f"{scene.name}: the host took away at most {max(seen.stolen):.2%} of the machine in a phase"
            )
    missed = failed or any(line.met is False for line in lines)
    return 1 if options.check and missed else 0


def _draw(scene: Scene, seen: Seen, path: Path) -> None:
    curves = [
        picture.Curve(label, [each for run in runs for each in run])
        for label, runs in (("alone", seen.alone), ("beside the others", seen.together))
    ]
    path.write_text(picture.latencies(scene.title, curves))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nox -s bench_neighbours --", description="Measure what a tenant's neighbours do to it."
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the generated table (%(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="how often everything is measured (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="how long quiet tenants are watched alone (%(default)s)"
    )
    parser.add_argument(
        "--rest", type=float, default=REST, help="seconds of nothing before each phase (%(default)s)"
    )
    parser.add_argument(
        "--scene", action="append", choices=[scene.name for scene in SCENES], help="only this one; repeatable"
    )
    parser.add_argument("--data", type=Path, help="where to keep the generated table (a temporary directory)")
    parser.add_argument("--pictures", type=Path, help="a directory for a picture of each scene")
    parser.add_argument("--json", action="store_true", help="print JSON, samples included")
    parser.add_argument("--check", action="store_true", help="exit with 1 when an aim is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
