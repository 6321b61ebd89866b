"""The invariants of every simulated run: each is stated once, beside its check."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pyarrow as pa
import trio

from simulator.lake import SHARED, TENANTS, marker
from simulator.queues import BULK, FLOOR, INTERACTIVE, WatchedQueue
from strata.artifacts import ArtifactState, tenant_prefix
from strata.observability.metrics import expose_at_once

if TYPE_CHECKING:
    from simulator.run import Life


@attrs.frozen
class Violation:
    """A broken invariant.

    Attributes:
        invariant: The invariant's name.
        detail: What was observed instead.
    """

    invariant: str
    detail: str


Check = Callable[["Life"], Iterator[str]]
INVARIANTS: dict[str, Check] = {}
"""Checks at the end of a life of the service, when no work is left, by name."""

WATCHED: dict[str, Check] = {}
"""Checks repeated while the service runs, by name."""

ANSWERED: dict[str, str] = {}
"""Invariants that clients check on each answer: their texts, by name."""


def at_rest(check: Check) -> Check:
    """Register a check for the end of a life of the service."""
    INVARIANTS[check.__name__] = check
    return check


def always(check: Check) -> Check:
    """Register a check that is repeated while the service runs."""
    WATCHED[check.__name__] = check
    return check


def said_of_answers(name: str, text: str) -> str:
    """Register an invariant that clients check on their answers; returns its name."""
    ANSWERED[name] = text
    return name


ROWS = said_of_answers(
    "answered_rows_are_the_tables",
    "A complete stream holds exactly the requested rows, of a version of the table that was current at some "
    "moment between the request and its answer.",
)
APART = said_of_answers(
    "no_answer_holds_another_tenants_bytes",
    "No answer holds a byte of another tenant's tables, whatever ids, names or addresses the client knows.",
)
DEADLINE = said_of_answers(
    "every_request_ends", "Every request ends within its deadline, also when its client is slow or gone."
)
STATUS = said_of_answers(
    "no_answer_is_a_crash",
    "No request is answered with 500, and every refusal is a problem with its request id.",
)
BUCKETS = said_of_answers(
    "failures_are_counted_by_address",
    "An address within its own limit of failed authentications is never refused for those of another address.",
)
KEPT = said_of_answers(
    "a_promised_result_survives",
    "A result that was reported ready survives a crash byte for byte, if the disk keeps what it has synced.",
)
ENDS = said_of_answers(
    "a_build_ends",
    "Every build ends ready or failed, and never fails because a reader left.",
)
GRACE = said_of_answers("shutdown_ends_within_its_grace", "A shutdown ends within its grace period.")


@always
def bounds_are_kept(life: Life) -> Iterator[str]:
    """There are at most ``max_tenants`` actors, at most one per tenant, and no queue exceeds its bound."""
    settings, registry = life.settings, life.service.registry
    tenants = list(registry.tenants())
    if len(tenants) > settings.max_tenants:
        yield f"{len(tenants)} tenants live where {settings.max_tenants} may"
    for tenant, count in life.actors.items():
        if count > 1:
            yield f"{tenant} has {count} actors"
    for found in tenants:
        if found.inbox is not None:
            waiting = found.inbox.statistics().current_buffer_used
            if waiting > settings.mailbox_size:
                yield f"{waiting} questions in a mailbox of {settings.mailbox_size}"
        if found.actor is not None and found.actor.materializer is not None:
            running = len(found.actor.materializer.running)
            if running > settings.max_concurrent_scans:
                yield f"{running} builds run where {settings.max_concurrent_scans} may"
    pool = registry.resources.pool
    if pool.running > pool.slots:
        yield f"{pool.running} quanta run in {pool.slots} slots"


@always
def no_build_runs_without_its_slot(life: Life) -> Iterator[str]:
    """A build that waits for its slot reads and writes nothing."""
    for found in life.service.registry.tenants():
        if found.actor is None or found.actor.materializer is None:
            continue
        for build in found.actor.materializer.running.values():
            if build.tail is not None and build.lease is not None and build.lease.claim.waiting:
                yield f"a build of {found.id} runs while it waits for its slot"


def interactive_quanta_keep_their_bound(life: Life) -> Iterator[str]:
    """An interactive quantum of a tenant within its share waits for at most one quantum of each other tenant with interactive work, and one bulk turn in four."""  # one line of the page
    yield from _broken(life, INTERACTIVE)


@always
def bulk_keeps_its_floor(life: Life) -> Iterator[str]:
    """While interactive work waits, runnable bulk work gets at least one turn in 128 and at most one in four."""
    yield from _broken(life, BULK)
    yield from _broken(life, FLOOR)


def _broken(life: Life, what: str) -> Iterator[str]:
    """Yield the violations that the pool's queue has recorded since the last call."""
    queue = life.service.registry.resources.pool._queue
    assert isinstance(queue, WatchedQueue)
    found = [broken for broken in queue.broken if broken.startswith(what)]
    queue.broken = [broken for broken in queue.broken if broken not in found]
    yield from found


@at_rest
def nothing_outlives_its_owner(life: Life) -> Iterator[str]:
    """No slot, reservation, message, build, quantum, thread, file or bucket's debt outlives its owner."""
    yield from _left_in_tenants(life)
    resources = life.service.registry.resources
    if resources.pool.running or resources.pool.waiting:
        yield f"{resources.pool.running} quanta run, {resources.pool.waiting} wait"
    yield from (f"threads are held: {group}" for group in resources.threads if not group.idle)
    if resources.memory.used or resources.memory.waiting:
        yield f"{resources.memory.used} bytes are reserved, {resources.memory.waiting} wait"
    if life.service.app.bodies.used:
        yield f"{life.service.app.bodies.used} bytes of bodies are held"
    if resources.starts.taken or resources.starts.waiting:
        yield f"{resources.starts.taken} turns to start are held, {resources.starts.waiting} wait"
    if life.service.app.tarpit.held:
        yield f"{life.service.app.tarpit.held} refusals are held up"
    if not all(rates.at_rest(trio.current_time()) for rates in life.service.registry.rates):
        yield "buckets are not full again"
    # The cache of a tenant that was not asked for since a crash is swept when it is.
    swept = ["artifacts", *(f"cache/{tenant_prefix(tenant)}" for tenant in sorted(life.ran))]
    leftovers = [path.name for where in swept for path in (life.root / where).rglob("*.part")]
    if leftovers:
        yield f"temporary files are left: {leftovers}"


def _left_in_tenants(life: Life) -> Iterator[str]:
    for found in life.service.registry.tenants():
        if found.open:
            yield f"{len(found.open)} questions of {found.id} are open"
        actor = found.actor
        if actor is None or actor.builder is None or actor.materializer is None:
            continue
        if actor.busy:
            yield f"{actor.busy} questions of {found.id} are still answered"
        if actor.materializer.running or actor.materializer.by_id:
            yield f"builds of {found.id} are still running"
        for tier, slots in actor.builder.slots.items():
            if slots.used or slots.waiting:
                yield f"{slots.used} {tier.value} slots of {found.id} are held, {slots.waiting} wait"


@at_rest
def ready_means_ready(life: Life) -> Iterator[str]:
    """A ready artifact has a complete blob with the recorded hash, size and row count, ended by its marker."""
    for (tenant, artifact_id, version), record in life.metadata._artifacts.items():
        if record.state is not ArtifactState.READY:
            continue
        sha256 = record.content_sha256
        assert sha256 is not None
        path = life.root / "artifacts" / "blobs" / tenant_prefix(tenant) / sha256[:2] / f"{sha256}.arrow"
        what = f"{tenant}'s {artifact_id}@{version}"
        if not path.exists():
            if not life.lying:
                yield f"{what} has no blob"
            continue
        data = path.read_bytes()
        if life.lying and hashlib.sha256(data).hexdigest() != sha256:
            continue
        if (hashlib.sha256(data).hexdigest(), len(data)) != (sha256, record.byte_size):
            yield f"{what} has other bytes than are noted"
            continue
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            rows = sum(batch.num_rows for batch in reader)
        if rows != record.row_count:
            yield f"{what} has {rows} rows where {record.row_count} are noted"
        if not data.endswith(b"\xff\xff\xff\xff\x00\x00\x00\x00"):
            yield f"{what} has no end"


@at_rest
def builds_have_ended(life: Life) -> Iterator[str]:
    """When no work is left, every build is ready or failed, and no announced build failed with its reader."""
    for (tenant, build_id), noted in life.metadata._builds.items():
        if noted.record.state not in (ArtifactState.READY, ArtifactState.FAILED) and not life.faulty_metadata:
            yield f"{tenant}'s build {build_id} is {noted.record.state.value}"
        told = (tenant, noted.record.artifact_id, noted.record.version) in life.book.begun
        if noted.record.error_code == "abandoned" and told:
            yield f"{tenant}'s build {build_id} was given up with its reader"


@at_rest
def tenants_files_are_their_own(life: Life) -> Iterator[str]:
    """No byte of one tenant's tables is in another tenant's directory of results or of the cache."""
    for kind in ("artifacts/blobs", "cache"):
        for directory in sorted((life.root / kind).glob("*")):
            if not directory.is_dir():
                continue
            seen = {
                owner
                for path in directory.rglob("*")
                if path.is_file() and path.suffix in {".arrow", ".pack"}
                for owner in TENANTS
                if marker(owner).encode() in path.read_bytes()
            }
            if len(seen) > 1:
                yield f"{kind}/{directory.name[:8]} holds bytes of {sorted(seen)}"
            prefixes = {tenant_prefix(owner): owner for owner in (*TENANTS, SHARED)}
            if seen and prefixes.get(directory.name) not in seen:
                yield f"{kind} of {prefixes.get(directory.name)} holds bytes of {sorted(seen)}"


@at_rest
def logs_and_metrics_tell_no_values(life: Life) -> Iterator[str]:
    """No row, token or header value is in a log line of any level, nor in the metrics."""
    metrics, _ = expose_at_once(life.service.registry, "text/plain")
    for where, text in (("the log", life.log_text()), ("the metrics", metrics.decode())):
        for what in (*(marker(owner) for owner in (*TENANTS, SHARED)), "a-token-of-the-simulation"):
            if what in text:
                yield f"{what} is in {where}"


def open_files(root: Path) -> list[int]:
    """Return the descriptors of files below ``root``."""
    found = []
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208  # of this very moment
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")  # noqa: PTH115  # of this very moment
        except OSError:
            continue
        if target.startswith(f"{root}/"):
            found.append(int(entry))
    return found


def describe() -> str:
    """Return the page of all invariants, as Markdown."""
    lines = [
        "# Invariants",
        "",
        "What holds in every run of the simulator (`tests/simulation`), with any clients, faults and crashes.",
        "This page is generated from the code that checks the invariants.",
        "",
        "## At every moment",
        "",
        *(f"- **{_title(name)}**: {_first(check)}" for name, check in WATCHED.items()),
        "",
        "## For every answer",
        "",
        *(f"- **{_title(name)}**: {text}" for name, text in ANSWERED.items()),
        "",
        "## When no work is left",
        "",
        *(f"- **{_title(name)}**: {_first(check)}" for name, check in INVARIANTS.items()),
        "",
        "A failing run prints the command that repeats it: `python -m simulator SEED`, with `tests/simulation` and",
        "`tests/support` on the path.",
    ]
    return "\n".join(lines) + "\n"


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _first(check: Check) -> str:
    return (check.__doc__ or "").strip().splitlines()[0]
