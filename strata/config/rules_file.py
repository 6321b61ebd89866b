"""Access rules in a file of their own: taken over whole or not at all, and again when the file changes."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio

from strata.acl import CompiledPolicy, Policy, PolicyError, parse_policy
from strata.file_poller import FilePoller, read_operator_file, signature_of

log = structlog.get_logger(__name__)

LIMITER = trio.CapacityLimiter(1)
"""Threads that read the file, or its signature."""


def read_rules(path: Path, catalogs: Collection[str]) -> tuple[Policy, tuple[str, ...]]:
    """Read a TOML file of rules, ``[[deny]]``, ``[[allow]]`` and ``default`` at its top level; blocking.

    Args:
        path: The file.
        catalogs: The configured warehouses and catalogs.

    Returns:
        The rules and the warnings an operator should see.

    Raises:
        PolicyError: If the file cannot be read or a rule is invalid; it has every problem found.
    """
    try:
        text = read_operator_file(path).decode("utf-8-sig")
    except OSError as error:
        raise PolicyError((f"{path} cannot be read: {error.strerror}.",)) from None
    except UnicodeDecodeError:
        raise PolicyError((f"{path} is not UTF-8.",)) from None
    return parse_rules(text, str(path), catalogs)


def parse_rules(text: str, name: str, catalogs: Collection[str] | None) -> tuple[Policy, tuple[str, ...]]:
    """Parse the text of a file of rules, as :func:`read_rules` does.

    Args:
        text: The text.
        name: What problems call it.
        catalogs: The configured warehouses and catalogs; None: unknown.

    Raises:
        PolicyError: If the text is not TOML or a rule is invalid; it has every problem found.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for a number of too many digits
        raise PolicyError((f"{name} is not valid TOML: {error}.",)) from None
    if not document:  # a file that lost its content: it would deny every request of every tenant
        raise PolicyError((f'{name} is empty; to deny everything, write `default = "deny"`.',))
    return parse_policy(document, catalogs)


@attrs.frozen
class RulesPlace:
    """Where a running server takes its rules from.

    Attributes:
        path: The file (``acl_file``); None: the configuration itself.
        catalogs: The configured warehouses and catalogs; see :func:`~strata.acl.parse_policy`.
        seconds: Seconds between two looks at the file (``acl_file_watch_seconds``); 0: no looks.
    """

    path: Path | None
    catalogs: Collection[str]
    seconds: float


@attrs.frozen
class RulesTaken:
    """The rules that are in effect from now on.

    Attributes:
        policy: The rules.
        changed: Whether they differ from the rules before.
        warnings: Warnings for an operator.
    """

    policy: Policy
    changed: bool
    warnings: tuple[str, ...]


@attrs.frozen
class RulesRefused:
    """A file of rules that was refused; the rules before stay in effect.

    Attributes:
        problems: Every problem found; none contains a value of ``rows``, or the file's path.
    """

    problems: tuple[str, ...]


@attrs.frozen
class NoRulesFile:
    """The rules are part of the configuration: there is no file to read."""


async def _in_thread(function: Callable[[], Any]) -> Any:
    return await trio.to_thread.run_sync(function, limiter=LIMITER)


@attrs.define(eq=False)
class RulesFile:
    """Keeps the rules of a running server those of its file.

    Attributes:
        place: Returns where the rules are taken from at present.
        present: Returns the rules in effect.
        take: Puts compiled rules into effect, without a checkpoint.
        run: Runs a blocking call.
        poller: Reloads the file when it has changed.
    """

    place: Callable[[], RulesPlace]
    present: Callable[[], Policy | None]
    take: Callable[[CompiledPolicy], None]
    run: Callable[[Callable[[], Any]], Awaitable[Any]] = _in_thread
    poller: FilePoller = attrs.field(init=False)
    _turn: trio.Lock = attrs.field(factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self.poller = FilePoller(self._watched, self.reload, self._blocking)

    def _watched(self) -> tuple[Path | None, float]:
        place = self.place()
        return place.path, place.seconds

    async def _blocking(self, function: Callable[[], Any]) -> Any:
        return await self.run(function)

    async def reload(self) -> RulesTaken | RulesRefused | NoRulesFile:
        """Read the file and put its rules into effect, all of them or none; calls run one after another."""
        async with self._turn:
            place = self.place()
            if place.path is None:
                return NoRulesFile()
            found = await self.run(partial(_read_compiled, place.path, place.catalogs))
            if isinstance(found, RulesRefused):
                log.warning("access rules refused: the old ones stay", problems=list(found.problems))
                return found
            compiled, warnings = found
            if self.place().path != place.path:  # a SIGHUP in between has replaced the rules
                return NoRulesFile()
            policy = compiled.policy
            changed = policy != self.present()
            if changed:
                self.take(compiled)
                counts = {"deny": len(policy.deny), "allow": len(policy.allow), "default": policy.default}
                log.info("access rules read again", **counts, warnings=list(warnings))
            return RulesTaken(policy, changed, warnings)


def _read_compiled(
    path: Path, catalogs: Collection[str]
) -> tuple[CompiledPolicy, tuple[str, ...]] | RulesRefused:
    """Read and compile; blocking: 100,000 rules take a second."""
    before = signature_of(path)
    try:
        policy, warnings = read_rules(path, catalogs)
    except PolicyError as error:
        # Problems name the setting: a caller of the admin API need not learn the server's paths.
        return RulesRefused(tuple(problem.replace(str(path), "acl_file") for problem in error.problems))
    if before != signature_of(path):
        return RulesRefused(("acl_file changed while it was read; it is read again once it is at rest.",))
    return CompiledPolicy(policy), warnings


def place_of(path: str | None, catalogs: Collection[str], seconds: float) -> RulesPlace:
    """Return the place that the settings ``acl_file`` and ``acl_file_watch_seconds`` name."""
    # Not Path.expanduser: it raises for an unknown user, where reading says that there is no such file.
    file = None if path is None else Path(os.path.expanduser(path))  # noqa: PTH111  # raises nothing
    return RulesPlace(file, catalogs if isinstance(catalogs, Mapping) else tuple(catalogs), seconds)
