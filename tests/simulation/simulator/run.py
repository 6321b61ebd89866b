"""Run one seed: successive lives of the service, all but the last ended by a crash."""

from __future__ import annotations

import io
import logging
import math
import os
import random
import re
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import attrs
import trio
from memory_metadata import MemoryMetadataStore
from memory_notebooks import MemoryNotebookStore
from memory_registry import MemoryRegistry
from memory_retention import MemoryRetention
from trio.testing import MockClock

from simulator.clients import Book, Client, check_promises
from simulator.disk import Disk
from simulator.invariants import (
    GRACE,
    INVARIANTS,
    STATUS,
    WATCHED,
    Violation,
    builds_have_ended,
    open_files,
    ready_means_ready,
)
from simulator.lake import SHARED, TENANTS, Lake, lake
from simulator.queues import WatchedQueue
from simulator.twins import CatalogTwin, Threads, copied, metadata_twin
from simulator.wire import TOKEN, Caller
from strata import acl
from strata.artifacts import LocalBlobStore
from strata.config import Settings
from strata.http.routes.app import create_app
from strata.observability.logs import configure
from strata.readers import READERS
from strata.server import Service, open_service
from strata.tables import Catalogs
from strata.tenants.builds import scan_pipeline
from strata.tenants.lifecycle.actor import TenantActor
from strata.tenants.retention.sweeper import LOOK_SECONDS
from strata.work import pool

REST_SECONDS = 900.0
"""Virtual seconds after which all work has ended."""

GRACE_SECONDS = 30.0

_ARTIFACT_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")

CLEANUP_SECONDS = 15.0
"""Maximum virtual seconds for cancelled builds to clean up (their own limit is 10)."""


@attrs.frozen
class Plan:
    """Parameters of a run, drawn from its seed.

    Attributes:
        lives: Starts of the service; all but the last end in a crash.
        errors: Probability that the metadata store does not answer, or the catalog cannot be read.
        slow: Maximum time of a call in a thread, in seconds.
        lying: The disk loses syncs that it acknowledged.
        short_reads: Probability of a short read.
        full: Probability that a write finds the disk full.
        clients: Number of clients.
        requests: Requests of each client in a life.
        max_tenants: Maximum running actors.
        slice_bytes: Estimated bytes of a slice of a row group.
    """

    lives: int
    errors: float
    slow: float
    lying: bool
    short_reads: float
    full: float
    clients: int
    requests: int
    max_tenants: int
    slice_bytes: int

    @classmethod
    def of(cls, draw: random.Random) -> Plan:
        """Draw the parameters of a run."""
        return cls(
            lives=draw.choice([1, 2, 2, 3]),
            errors=draw.choice([0, 0, 0.05, 0.2]),
            slow=draw.choice([0.001, 0.1, 1.0]),
            lying=draw.random() < 0.1,
            short_reads=draw.choice([0, 0, 0.1]),
            full=draw.choice([0, 0, 0, 0.05]),
            clients=draw.randint(1, 4),
            requests=draw.randint(1, 4),
            max_tenants=draw.choice([1, 2, 3]),
            slice_bytes=draw.choice([64, 256, 4096]),
        )


@attrs.define(eq=False)
class Life:
    """The service between a start and its end.

    Attributes:
        number: Number of the life in the run.
        settings: Settings of the service.
        service: The service.
        metadata: Its metadata store.
        catalog: Its catalog.
        lake: The tables.
        root: Directory of its files.
        lying: The disk loses syncs that it acknowledged.
        faulty_metadata: The metadata store fails sometimes.
        book: Facts that clients remember.
        trace: Events, with the virtual time.
        violations: Broken invariants.
        log: The service's log lines.
        actors: Running actors by tenant.
        names: Names of artifacts in the trace.
        ran: Tenants whose actors ran.
        ended: The process has died.
    """

    number: int
    settings: Settings
    metadata: MemoryMetadataStore
    catalog: CatalogTwin
    lake: Lake
    root: Path
    lying: bool
    faulty_metadata: bool
    book: Book
    trace: list[str]
    violations: list[Violation]
    log: io.StringIO
    names: dict[str, int]
    actors: Counter[str] = attrs.field(factory=Counter)
    ran: set[str] = attrs.field(factory=set)
    ended: bool = False
    service: Service = attrs.field(init=False)

    def note(self, what: str) -> None:
        """Write a line of the trace."""
        named = _ARTIFACT_ID.sub(self._name, what)
        self.trace.append(f"{trio.current_time():.6f} {named}")

    def _name(self, found: re.Match[str]) -> str:
        """Number artifacts as they appear, since their ids differ between processes with the tables' ids."""
        return f"artifact-{self.names.setdefault(found[0], len(self.names) + 1)}"

    def violated(self, invariant: str, detail: str) -> None:
        """Record a broken invariant, unless the process is dead."""
        if not self.ended:
            self.violations.append(Violation(invariant, detail))
            self.note(f"VIOLATED {invariant}: {detail}")

    def versions(self, owner: str) -> tuple[int, int]:
        """Return the first and last index of the table's versions that have been current so far."""
        now = self.catalog.now[owner]
        return now, now

    def watch(self) -> None:
        """Check the invariants of every moment."""
        for name, check in WATCHED.items():
            for detail in check(self):
                self.violated(name, detail)

    def log_text(self) -> str:
        """Return all log lines."""
        return self.log.getvalue()


@attrs.frozen
class Report:
    """A run.

    Attributes:
        seed: Seed of the run.
        trace: Events, one per line.
        violations: Broken invariants.
    """

    seed: int
    trace: tuple[str, ...]
    violations: tuple[Violation, ...]

    @property
    def replay(self) -> str:
        """The command that repeats the run."""
        return (
            f"PYTHONPATH=tests/simulation:tests/support {Path(sys.executable).name} -m simulator {self.seed}"
        )


def simulate(seed: int) -> Report:
    """Run one seed in this process; return its trace and violations."""
    draw = random.Random(seed)
    with ExitStack() as held:
        base = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="strata-sim-", dir=_memory())))
        run = _Run(seed, draw, base)
        held.enter_context(_seeded(draw.getrandbits(64)))
        held.enter_context(_logged(run.log))
        for number in range(run.plan.lives):
            run.live(number)
            if any(violation for violation in run.violations):
                break
    return Report(seed, tuple(run.trace), tuple(run.violations))


class _Run:
    def __init__(self, seed: int, draw: random.Random, base: Path) -> None:
        self.tight = seed % 2 == 0
        self.cores = 1 if seed % 3 == 0 else 2
        self.seed = seed
        self.draw = draw
        self.base = base
        self.plan = Plan.of(draw)
        self.log = io.StringIO()
        self.trace: list[str] = [f"seed {seed}: {self.plan}"]
        self.violations: list[Violation] = []
        self.book = Book()
        self.names: dict[str, int] = {}
        self.lake = lake()
        self.catalog = CatalogTwin(
            self.lake, dict.fromkeys(self.lake.tables, 0), random.Random(f"{seed} catalog"), self.plan.errors
        )
        self.metadata = metadata_twin(draw, self.plan.errors)
        self.root = base / "0"
        for name in ("artifacts", "cache"):
            (self.root / name).mkdir(parents=True)

    def live(self, number: int) -> None:
        """Run one life, with its own clock and scheduler."""
        plan = self.plan
        disk = Disk(self.root, self.draw, lying=plan.lying, short_reads=plan.short_reads, full=plan.full)
        life = Life(
            number, _settings(self.root, self.plan.max_tenants, tight=self.tight, cores=self.cores), self.metadata, self.catalog, self.lake, self.root,
            self.plan.lying, self.plan.errors > 0, self.book, self.trace, self.violations, self.log, self.names,
        )  # fmt: skip
        threads = Threads(self.draw, self.plan.slow)
        crash = number < self.plan.lives - 1
        slices = mock.patch.multiple(
            scan_pipeline, SLICE_BYTES=self.plan.slice_bytes, FIRST_SLICE_BYTES=self.plan.slice_bytes // 2
        )
        queue = mock.patch.object(pool, "FairQueue", WatchedQueue)
        here = mock.patch.object(READERS, "available", new=False)  # no process runs on the virtual clock
        with disk.watched(), threads.instead(), _watched_actors(life), slices, queue, here:
            instruments = []
            ending = _Ending(self, life, disk, threads, self.draw.randint(200, 20_000)) if crash else None
            if ending is not None:
                instruments.append(ending)
            _schedule(self.draw.getrandbits(64))
            clock = MockClock(autojump_threshold=0)
            try:
                trio.run(self._main, life, ending, clock=clock, instruments=instruments)
            except Exception as error:  # noqa: BLE001  # whatever leaves the service is a finding
                life.violations.append(Violation(STATUS, f"the service crashed: {error!r}"))
        left = open_files(self.base)
        if left and not life.ended:
            life.violations.append(
                Violation("nothing_outlives_its_owner", f"{len(left)} descriptors were left open")
            )
        for descriptor in left:  # as the system does for a killed process
            os.close(descriptor)

    async def _main(self, life: Life, ending: _Ending | None) -> None:
        life.note(f"life {life.number} begins")
        stop_after = self.draw.random() * 20 if ending is None and self.draw.random() < 0.4 else math.inf
        with trio.CancelScope() as scope:
            if ending is not None:
                ending.scope = scope
            async with open_service(
                life.settings, stores=lambda _settings: self._stores(), catalogs=self._catalogs(), app=_app()
            ) as service:
                life.service = service
                async with trio.open_nursery() as server:
                    with trio.move_on_after(stop_after) as patience:
                        await self._work(life, server)
                    if ending is not None:
                        ending.now()
                        await trio.sleep_forever()
                    if patience.cancelled_caught:
                        await self._drain(life, server)
                    else:
                        await self._rest(life)
                began = trio.current_time()
            if trio.current_time() - began > CLEANUP_SECONDS:
                life.violated(GRACE, f"the end took {trio.current_time() - began:.0f} s")
            for check in () if life.ended else (builds_have_ended, ready_means_ready):
                for detail in check(life):
                    life.violated(check.__name__, detail)

    async def _drain(self, life: Life, server: trio.Nursery) -> None:
        """Stop as the serving loop does: no new requests, a grace period, then connections are cut."""
        life.note("the server stops")
        life.service.registry.draining = True
        with trio.move_on_after(GRACE_SECONDS):
            while server.child_tasks:  # noqa: ASYNC110  # the end of requests has no event
                await trio.sleep(1)
        server.cancel_scope.cancel()

    async def _work(self, life: Life, server: trio.Nursery) -> None:
        if life.number:
            await check_promises(life, server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._commit, nursery.cancel_scope)
            async with trio.open_nursery() as clients:
                for index in range(self.plan.clients):
                    caller = Caller(TENANTS[index % len(TENANTS)], f"user{index}")
                    client = Client(life, server, caller, random.Random(self.draw.getrandbits(64)))
                    clients.start_soon(client.run, self.plan.requests)
            nursery.cancel_scope.cancel()

    async def _commit(self, _scope: trio.CancelScope) -> None:
        """Commit new versions of the tables now and then."""
        draw = random.Random(self.draw.getrandbits(64))
        while True:
            await trio.sleep(draw.random() * 10)
            owner = draw.choice([*TENANTS, SHARED])
            if self.catalog.now[owner] < len(self.lake.tables[owner]) - 1:
                self.catalog.now[owner] += 1

    async def _rest(self, life: Life) -> None:
        """Wait until all work has ended, then check the invariants."""
        await trio.sleep(REST_SECONDS)
        # The look at the disk, every LOOK_SECONDS, is the work of no request.
        threads = life.service.registry.resources.threads
        with trio.move_on_after(LOOK_SECONDS / 2):
            while not all(group.idle for group in threads):  # noqa: ASYNC110  # threads set no event
                await trio.sleep(0.1)
        life.watch()
        for name, check in INVARIANTS.items():
            for detail in check(life):
                life.violated(name, detail)

    def _stores(self) -> Any:
        blobs = LocalBlobStore(self.root / "artifacts" / "blobs")
        self.metadata.sweep_interrupted()
        blobs.sweep()
        retention = MemoryRetention(self.metadata)
        return SimpleNamespace(
            metadata=self.metadata,
            retention=retention,
            registry=MemoryRegistry(self.metadata),
            notebooks=MemoryNotebookStore(lambda: 0.0),
            accesses=None,
            blobs=blobs,
            root=self.root / "artifacts",
            servers=None,
            close=lambda: None,
        )

    def _catalogs(self) -> Catalogs:
        found = Catalogs(warehouses={"wh": self.lake.path}, catalogs={}, any_file_warehouse=False)
        found._sqlite = {"wh": self.catalog}
        return found


class _Ending(trio.abc.Instrument):
    """Crash after a number of steps of all tasks: copy the disk, and cancel all tasks."""

    def __init__(self, run: _Run, life: Life, disk: Disk, threads: Threads, steps: int) -> None:
        self._run = run
        self._life = life
        self._disk = disk
        self._threads = threads
        self._steps = steps
        self.scope: trio.CancelScope | None = None
        self.done = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See Trio."""
        del task
        self._steps -= 1
        if self._steps <= 0 and self.scope is not None:
            self.now()

    def now(self) -> None:
        """Crash, once."""
        if self.done:
            return
        self.done = True
        run, life = self._run, self._life
        life.note("the process dies")
        life.ended = True
        self._threads.alive = False
        run.root = run.base / f"{life.number + 1}"
        run.root.mkdir()
        self._disk.crash(run.root)
        for name in ("artifacts", "cache"):
            (run.root / name).mkdir(exist_ok=True)
        run.metadata = copied(run.metadata, metadata_twin(run.draw, run.plan.errors))
        assert self.scope is not None
        self.scope.cancel()


def _settings(root: Path, max_tenants: int, *, tight: bool, cores: int) -> Settings:
    # Waits for memory or a principal's slot would leave too little concurrent work in the pool.
    budget, each = (300_000, 1) if tight else (0, 0)
    own = tuple(acl.Rule(principal="*", resource=f"tables/wh/{owner}/*", tenant=owner) for owner in TENANTS)
    policy = acl.Policy(
        deny=(),
        allow=(*own, acl.Rule(principal="*", resource=f"tables/wh/{SHARED}/*"), *_ADMIN),
        default="deny",
    )
    return Settings(
        deployment_mode="service", auth_mode="trusted_proxy", proxy_token=TOKEN, multi_tenant_enabled=True,
        require_tenant_header=True, artifact_dir=str(root / "artifacts"), cache_dir=str(root / "cache"),
        acl_config=policy, interactive_slots=2, bulk_slots=1, interactive_max_columns=2, max_concurrent_scans=4,
        max_tenants=max_tenants, mailbox_size=8, work_slots=cores, fetch_parallelism=2, batch_size=16,
        max_cache_size_bytes=100_000, auth_failures_per_second=0.5, auth_failure_burst=3,
        shutdown_grace_seconds=GRACE_SECONDS, disk_reserve_bytes=0, memory_budget_bytes=budget,
        interactive_slots_per_principal=each,
    )  # fmt: skip


_ADMIN = (acl.Rule(principal="*", resource="admin/cache"),)


@cache
def _app() -> Any:
    """Return an application, made once: it holds no state of a service, and takes time to make."""
    return create_app(personal=False)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextmanager
def _watched_actors(life: Life) -> Iterator[None]:
    """Count running actors."""
    real = TenantActor.run

    async def counted(actor: TenantActor) -> None:
        life.ran.add(actor.tenant)
        life.actors[actor.tenant] += 1
        if life.actors[actor.tenant] > 1:
            life.violated("bounds_are_kept", f"{actor.tenant} has {life.actors[actor.tenant]} actors")
        try:
            await real(actor)
        finally:
            life.actors[actor.tenant] -= 1

    with mock.patch.object(TenantActor, "run", counted):
        yield


def _schedule(seed: int) -> None:
    """Make Trio's scheduler depend on the seed (it shuffles ready tasks with its own generator)."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio._core._run._r.seed(seed)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Replace the system's randomness: ids and names of temporary files."""
    draw = random.Random(seed)

    def token_hex(nbytes: int = 32) -> str:
        return draw.randbytes(nbytes).hex()

    with (
        mock.patch.object(secrets, "token_hex", token_hex),
        mock.patch.object(secrets, "token_urlsafe", token_hex),
    ):
        yield


@contextmanager
def _logged(out: io.StringIO) -> Iterator[None]:
    """Collect log lines of every level."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure("DEBUG", "json", out)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
