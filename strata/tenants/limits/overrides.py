"""The limits of each tenant: from settings, and from the overrides that the admin API keeps in a file.

The file is read again when it changes and on SIGHUP, and taken over whole or not at all; when it is gone, the
limits that were in it stay, for a lost file must not enable a disabled tenant. A change by the API
holds a lock, reads the file, and replaces it before the change takes effect: the limits in effect are those
that a restart would find.
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
from strata.file_poller import FilePoller, Signature, signature_of
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.limits.model import TenantLimits

T = TypeVar("T")

WATCH_SECONDS = 0.4
"""Seconds between two looks at the file: a change takes effect after two of them, within a second."""

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
    "has changed. Reset limits that are no longer needed.",
    code="overrides_full",
    retry_after=30,
)

log = structlog.get_logger(__name__)


@attrs.frozen
class Changed:
    """A change of a tenant's overrides: values by limit, before and after; None where there is none."""

    old: Mapping[str, Any]
    new: Mapping[str, Any]


@attrs.frozen
class Unfit:
    """A change that is invalid, with a problem for each limit that is."""

    problems: tuple[Problem, ...]


LIMITER = trio.CapacityLimiter(1)
"""Thread that reads, writes and polls the file: one that hangs there holds up no call of a tenant."""


async def _in_thread(function: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(function, limiter=LIMITER)


@attrs.define(eq=False)
class TenantOverrides:
    """Limits by tenant.

    Attributes:
        settings: The settings in effect.
        limits_of: Computes limits from settings.
        overrides: The overrides in effect.
        changed: Called with the tenants whose overrides have changed: gives the limits to the actors.
        blocking: Runs a blocking call.
        poller: Refreshes the overrides when the file has changed.
    """

    settings: Settings
    limits_of: Callable[[Settings], TenantLimits]
    overrides: Overrides = attrs.field(factory=Overrides)
    changed: Callable[[Collection[str]], None] = lambda _tenants: None
    blocking: Callable[[Callable[[], Any]], Awaitable[Any]] = _in_thread
    poller: FilePoller = attrs.field(init=False)
    _known: dict[str, TenantLimits] = attrs.field(factory=dict)
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self.poller = FilePoller(
            lambda: (self.settings.overrides_path, WATCH_SECONDS),
            self.refresh,
            self.blocking,
        )

    def take(self, settings: Settings) -> None:
        """Put other settings into effect."""
        self.settings = settings
        self._known.clear()

    def limits(self, tenant: str) -> TenantLimits:
        """Return the limits of ``tenant``; all tenants without limits of their own share one object."""
        name = tenant if self.has_own(tenant) else ""
        found = self._known.get(name)
        if found is None:
            values = self.effective(name)
            found = self.limits_of(attrs.evolve(self.settings, **changed_settings(values)))
            found = self._known[name] = attrs.evolve(found, weight=values["weight"].value)
        return found

    def effective(self, tenant: str) -> dict[str, Effective]:
        """Return every limit of ``tenant`` by name, with the layer that it comes from."""
        return effective(self.settings, self.overrides, tenant)

    def enabled(self, tenant: str) -> bool:
        """Whether requests of ``tenant`` are served."""
        return not self.has_own(tenant) or bool(self.effective(tenant)["enabled"].value)

    def has_own(self, tenant: str) -> bool:
        """Whether ``tenant`` has a section of the configuration, or overrides."""
        overrides = self.overrides
        return tenant in self.settings.tenants or tenant in overrides.granted or tenant in overrides.own

    def tenants(self) -> set[str]:
        """Return the tenants with a section of the configuration, or overrides."""
        return {*self.settings.tenants, *self.overrides.tenants()}

    async def refresh(self) -> None:
        """Take over the file; one with errors is logged and changes nothing."""
        async with self._lock:
            await self._read()

    async def _read(self) -> bool:
        """Take over the file; returns whether it has no errors.

        A missing file is no error: the limits in effect are written whole with the next change.
        """
        self.poller.read, found, problems = await self.blocking(partial(_read, self.settings.overrides_path))
        if found is None:
            if lost := len(self.overrides.tenants()):
                log.warning("the file of limits of tenants is missing: the limits stay", tenants=lost)
            return True
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
        """Change overrides of a tenant, in the file and in effect.

        Args:
            tenant: The tenant.
            values: New values by limit, None to reset one; None instead of a mapping to reset all.
            operator: Whether an operator changes them; see :func:`~strata.config.effective.check_change`.
            note: Called before the file is written; if it raises ``RefusalError``, nothing changes.

        Returns:
            The change; :class:`Unfit` if a value is invalid; or UNAVAILABLE, with nothing changed: the file
            has errors, would be too large or cannot be written, or ``note`` refused.
        """
        async with self._lock:
            if not await self._read():
                return UNUSABLE
            before = self.overrides
            granted, own = dict(before.granted.get(tenant, {})), dict(before.own.get(tenant, {}))
            layer = granted if operator else own
            # A reset is about limits: it does not enable a tenant that an operator has disabled.
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
                with trio.CancelScope(shield=True):  # a written file takes effect, even if the caller left
                    path = self.settings.overrides_path
                    self.poller.read = await self.blocking(partial(_write, path, text))
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


def _read(path: Path) -> tuple[Signature, Overrides | None, list[Problem]]:
    signature = signature_of(path)  # before its content: the poller sees a change in between
    return signature, *read_overrides(path)


def _write(path: Path, text: str) -> Signature:
    replace_file(path, text)
    return signature_of(path)
