"""Access rules in a file of their own: read whole, taken at once, and again whenever the file changes."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import structlog
import trio

from strata.acl import CompiledPolicy, Policy, PolicyError, parse_policy

log = structlog.get_logger(__name__)

Stamp: TypeAlias = "tuple[int, int, int, int] | None"
"""What tells one content of a file from another; None: no file that can be read."""

LIMITER = trio.CapacityLimiter(1)
"""Threads that look at the file."""


def read_rules(path: Path, catalogs: Collection[str]) -> tuple[Policy, tuple[str, ...]]:
    """Read a file of rules: ``[[deny]]``, ``[[allow]]`` and ``default`` at its top; blocking.

    Args:
        path: The file.
        catalogs: The configured warehouses and catalogs.

    Returns:
        The rules and the warnings an operator should see.

    Raises:
        PolicyError: With everything that is wrong, the file itself included.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PolicyError((f"{path} cannot be read: {error.strerror}.",)) from None
    except UnicodeDecodeError:
        raise PolicyError((f"{path} is not UTF-8.",)) from None
    except (ValueError, RecursionError) as error:  # also of a number too long to be one
        raise PolicyError((f"{path} is not valid TOML: {error}.",)) from None
    return parse_policy(document, catalogs)


def stamp_of(path: Path) -> Stamp:
    """Return the file's stamp; blocking."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@attrs.frozen
class RulesPlace:
    """Where a running server has its rules from.

    Attributes:
        path: The file (``acl_file``); None: the configuration itself.
        catalogs: The configured warehouses and catalogs.
        seconds: How often the file is looked at (``acl_file_watch_seconds``); 0: never.
    """

    path: Path | None
    catalogs: tuple[str, ...]
    seconds: float


@attrs.frozen
class RulesTaken:
    """The rules that hold from now on.

    Attributes:
        policy: They.
        changed: Whether they are others than before.
        warnings: What an operator should see.
    """

    policy: Policy
    changed: bool
    warnings: tuple[str, ...]


@attrs.frozen
class RulesRefused:
    """Rules that were refused whole; those before stay.

    Attributes:
        problems: Everything that is wrong; no problem repeats a value of a ``rows``, or where the file is.
    """

    problems: tuple[str, ...]


@attrs.frozen
class NoRulesFile:
    """There is no file to read: the rules stand in the configuration."""


async def _in_thread(function: Callable[[], Any]) -> Any:
    return await trio.to_thread.run_sync(function, limiter=LIMITER)


@attrs.define(eq=False)
class RulesFile:
    """Makes the rules of a running server those of its file.

    Attributes:
        place: Returns where the rules are from at this moment.
        present: Returns the rules of this moment.
        take: Puts rules into effect, compiled; no checkpoint in between.
        run: Calls something that blocks.
        moved: Set when ``place`` may return another one; replaced when somebody has noticed.
    """

    place: Callable[[], RulesPlace]
    present: Callable[[], Policy | None]
    take: Callable[[CompiledPolicy], None]
    run: Callable[[Callable[[], Any]], Awaitable[Any]] = _in_thread
    moved: trio.Event = attrs.field(factory=trio.Event)
    _turn: trio.Lock = attrs.field(factory=trio.Lock)

    async def reload(self) -> RulesTaken | RulesRefused | NoRulesFile:
        """Read the file and take its rules, all of them or none; two calls never cross."""
        async with self._turn:
            place = self.place()
            if place.path is None:
                return NoRulesFile()
            found = await self.run(partial(_read_compiled, place.path, place.catalogs))
            if isinstance(found, RulesRefused):
                log.warning("access rules refused: the old ones stay", problems=list(found.problems))
                return found
            compiled, warnings = found
            if self.place().path != place.path:  # a SIGHUP came between, with rules of its own
                return NoRulesFile()
            policy = compiled.policy
            changed = policy != self.present()
            if changed:
                self.take(compiled)
                counts = {"deny": len(policy.deny), "allow": len(policy.allow), "default": policy.default}
                log.info("access rules read again", **counts, warnings=list(warnings))
            return RulesTaken(policy, changed, warnings)

    async def watch(self) -> None:
        """Look at the file from time to time, and read it when it has changed and come to rest.

        A file that is being written may already parse, with its last rules missing: so a change is taken only
        when two looks have seen the same.
        """
        read: object = self  # no stamp: what was read at the start may be older than the first look
        last: object = None
        while True:
            place = self.place()
            if place.path is None or not place.seconds:
                await self.moved.wait()
                self.moved, read = trio.Event(), self
                continue
            stamp = await self.run(partial(stamp_of, place.path))
            if stamp == last and stamp != read:
                read = stamp
                await self.reload()
            last = stamp
            with trio.move_on_after(place.seconds):
                await self.moved.wait()
                self.moved = trio.Event()


def _read_compiled(
    path: Path, catalogs: Collection[str]
) -> tuple[CompiledPolicy, tuple[str, ...]] | RulesRefused:
    """Read and compile; of a hundred thousand rules that takes a second, which the loop does not have."""
    before = stamp_of(path)
    try:
        policy, warnings = read_rules(path, catalogs)
    except PolicyError as error:
        # By its setting: who reads the rules again over HTTP need not know where the server has its files.
        return RulesRefused(tuple(problem.replace(str(path), "acl_file") for problem in error.problems))
    if before != stamp_of(path):
        return RulesRefused(("acl_file changed while it was read; it is read again when it is at rest.",))
    return CompiledPolicy(policy), warnings


def place_of(path: str | None, catalogs: Collection[str], seconds: float) -> RulesPlace:
    """Return the place that settings name."""
    # Not Path's own: the home of nobody is a path that does not exist, and no error here.
    file = None if path is None else Path(os.path.expanduser(path))  # noqa: PTH111  # raises nothing
    return RulesPlace(file, tuple(catalogs), seconds)
