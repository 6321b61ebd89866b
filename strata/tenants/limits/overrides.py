"""What each tenant may use at this moment: settings, and what the admin API has changed, kept in a file.

The file is read again when it changes and on SIGHUP, and taken over whole or not at all. Whoever changes it
by the API holds a lock, reads what is there, and replaces the file before anything takes effect: what holds
is what a restart would find.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import structlog
import trio

from strata.config import Problem, Settings
from strata.config.effective import Effective, changed_settings, check_change, effective
from strata.config.tenants import Overrides, is_too_large, print_overrides, read_overrides
from strata.durable import replace_file
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.limits.model import TenantLimits

T = TypeVar("T")

WATCH_SECONDS = 0.5
"""How often it is looked whether the file has changed."""

DISABLED = Refused(Reason.FORBIDDEN, "This tenant is disabled.", code="tenant_disabled")

UNUSABLE = Refused(
    Reason.UNAVAILABLE,
    "The file with the tenants' limits has errors (tenant_overrides_file); the log names them.",
    code="overrides_unusable",
    retry_after=30,
)
NOT_WRITTEN = Refused(
    Reason.UNAVAILABLE,
    "The file with the tenants' limits cannot be written (tenant_overrides_file); nothing has changed.",
    code="overrides_not_written",
    retry_after=30,
)
FULL = Refused(
    Reason.UNAVAILABLE,
    "The file with the tenants' limits would be too large to be read again (tenant_overrides_file); nothing "
    "has changed. Go back with limits that are no longer needed.",
    code="overrides_full",
    retry_after=30,
)

log = structlog.get_logger(__name__)

Signature = tuple[int, int, int] | None


@attrs.frozen
class Changed:
    """What somebody changes: values by limit, before and after; None where nothing was or is said."""

    old: Mapping[str, Any]
    new: Mapping[str, Any]


@attrs.frozen
class Unfit:
    """A change that cannot be: what is wrong with it, by limit."""

    problems: tuple[Problem, ...]


async def _in_thread(function: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(function)


@attrs.define(eq=False)
class TenantOverrides:
    """Limits by tenant.

    Attributes:
        settings: What is in effect.
        limits_of: Limits out of settings.
        overrides: What the admin API has changed.
        changed: Called with the tenants whose limits the overrides have changed: gives them to the actors.
        blocking: Runs what looks at files.
    """

    settings: Settings
    limits_of: Callable[[Settings], TenantLimits]
    overrides: Overrides = attrs.field(factory=Overrides)
    changed: Callable[[Collection[str]], None] = lambda _tenants: None
    blocking: Callable[[Callable[[], Any]], Awaitable[Any]] = _in_thread
    _seen: Signature = None
    _known: dict[str, TenantLimits] = attrs.field(factory=dict)
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    def take(self, settings: Settings) -> None:
        """Let other settings hold."""
        self.settings = settings
        self._known.clear()

    def limits(self, tenant: str) -> TenantLimits:
        """Return the limits of ``tenant``; all tenants of whom nothing is said share one value."""
        name = tenant if self.says_of(tenant) else ""
        found = self._known.get(name)
        if found is None:
            values = self.effective(name)
            found = self.limits_of(attrs.evolve(self.settings, **changed_settings(values)))
            found = self._known[name] = attrs.evolve(found, weight=values["weight"].value)
        return found

    def effective(self, tenant: str) -> dict[str, Effective]:
        """Return every limit of ``tenant`` with where it comes from."""
        return effective(self.settings, self.overrides, tenant)

    def enabled(self, tenant: str) -> bool:
        """Whether ``tenant`` is served at all."""
        return not self.says_of(tenant) or bool(self.effective(tenant)["enabled"].value)

    def says_of(self, tenant: str) -> bool:
        """Whether anything is said of this tenant alone."""
        overrides = self.overrides
        return tenant in self.settings.tenants or tenant in overrides.granted or tenant in overrides.own

    def tenants(self) -> set[str]:
        """Return of whom something is said."""
        return {*self.settings.tenants, *self.overrides.tenants()}

    async def watch(self, seconds: float = WATCH_SECONDS) -> None:
        """Take the file over whenever it has changed, until cancelled."""
        while True:
            await trio.sleep(seconds)
            await self.refresh()

    async def refresh(self) -> None:
        """Take the file over if it has changed; one with errors is logged and changes nothing."""
        async with self._lock:
            seen = await self.blocking(partial(_signature, self.settings.overrides_path))
            if seen != self._seen:
                await self._read()

    async def _read(self) -> bool:
        seen, found, problems = await self.blocking(partial(_read, self.settings.overrides_path))
        self._seen = seen
        if problems:
            said = [str(problem) for problem in problems]
            log.warning("limits of tenants refused: the old ones stay", problems=said)
            return False
        if found != self.overrides:
            self._install(found)
            log.info("limits of tenants read again", tenants=len(found.tenants()))
        return True

    def _install(self, overrides: Overrides) -> None:
        tenants, self.overrides = overrides.differing(self.overrides), overrides
        for tenant in tenants:
            self._known.pop(tenant, None)
        self.changed(tenants)

    async def change(
        self,
        tenant: str,
        values: Mapping[str, Any] | None,
        *,
        operator: bool,
        note: Callable[[Changed], Awaitable[None]],
    ) -> Changed | Unfit | Refused:
        """Change limits of a tenant, for good.

        Args:
            tenant: Whose.
            values: New values by limit, None of one to go back; None instead of them to go back with all.
            operator: Whether an operator does; see :func:`~strata.config.effective.check_change`.
            note: Told before anything changes, and nothing does if it raises ``RefusalError``.
        """
        async with self._lock:
            if not await self._read():
                return UNUSABLE
            before = self.overrides
            granted, own = dict(before.granted.get(tenant, {})), dict(before.own.get(tenant, {}))
            layer = granted if operator else own
            # Going back is about limits: it does not let in whom an operator has turned away.
            back = dict.fromkeys(({*layer, *own} if operator else {*layer}) - {"enabled"})
            wanted = back if values is None else values
            problems = check_change(wanted, self.effective(tenant), operator=operator)
            if problems:
                return Unfit(tuple(problems))
            layers = [layer, own] if operator and values is None else [layer]
            change = Changed({name: _held(layers, name) for name in wanted}, dict(wanted))
            for each in layers:
                _apply(each, wanted)
            after = before.having(tenant, granted=granted, own=own)
            text = await self.blocking(partial(print_overrides, after))
            if is_too_large(text):
                return FULL
            try:
                await note(change)
                with trio.CancelScope(shield=True):  # what is on disk holds, also when the asker has left
                    path = self.settings.overrides_path
                    self._seen = await self.blocking(partial(_write, path, text))
            except RefusalError as error:
                return error.refused
            except OSError as error:
                log.error("limits of tenants cannot be written", error=type(error).__name__)  # noqa: TRY400  # no bug
                return NOT_WRITTEN
            self._install(after)
            return change


def _held(layers: list[dict[str, Any]], name: str) -> Any:
    return next((layer[name] for layer in layers if name in layer), None)


def _apply(layer: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if value is None:
            layer.pop(name, None)
        else:
            layer[name] = value


def _signature(path: Path) -> Signature:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> tuple[Signature, Overrides, list[Problem]]:
    seen = _signature(path)  # before its content: a change in between is seen next time
    return seen, *read_overrides(path)


def _write(path: Path, text: str) -> Signature:
    replace_file(path, text)
    return _signature(path)
