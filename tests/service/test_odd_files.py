"""Configuration, access rules and limits of tenants in files with anything in them, read by a running server.

Whatever a file has in it, the server stays as it was, one line says why, and nothing ends.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from service_kit import TOKEN
from structlog.testing import capture_logs

from strata.background import keep_running
from strata.config import Settings
from strata.config.sources import load_settings
from strata.file_poller import FilePoller
from strata.server.reload import reload_settings, watch_hangups
from strata.server.service import Service, open_service

RULES = 'default = "allow"\n[[deny]]\nprincipal = "eve@example.com"\nresource = "tables/*/hr/*"\n'
LIMITS = "[tenants.team-a]\nbulk_slots = 3\n\n[tenants.team-b]\nenabled = false\n"
NUMBER = "9" * 5000
CONFIG = """\
[tool.strata]
deployment_mode = "service"
auth_mode = "trusted_proxy"
proxy_token_file = "token"
multi_tenant_enabled = true
artifact_dir = "artifacts"
cache_dir = "cache"
acl_file = "rules.toml"
tenant_overrides_file = "limits.toml"
bulk_slots = 5

[tool.strata.warehouses]
wh = "lake"

[tool.strata.tenants.team-c]
weight = 2.0
"""
FILES = {"strata.toml": CONFIG, "rules.toml": RULES, "limits.toml": LIMITS, "token": TOKEN}


@attrs.frozen
class Deployment:
    """A running service whose configuration, rules and limits are in files of ``place``."""

    place: Path
    service: Service

    def settings(self) -> Settings:
        return load_settings(
            config_file=self.place / "strata.toml", environ={}, options={}, cwd=self.place
        ).settings

    async def read(self, name: str) -> None:
        """Read the file again, as the server does when it has changed, or on SIGHUP."""
        match name:
            case "rules.toml":
                await self.service.rules.reload()
            case "limits.toml":
                await self.service.tenant_overrides.refresh()
            case _:
                await reload_settings(self.service, None, self.settings)

    def state(self) -> tuple[Any, ...]:
        found = self.service
        limits = tuple(found.tenant_overrides.limits(tenant) for tenant in ("team-a", "team-b", "team-c"))
        enabled = tuple(found.tenant_overrides.enabled(tenant) for tenant in ("team-a", "team-b"))
        return found.settings, found.authorizer.policy, found.app.contract, limits, enabled


@asynccontextmanager
async def deployed(place: Path) -> AsyncIterator[Deployment]:
    for name, text in FILES.items():
        (place / name).write_text(text)
    (place / "lake").mkdir()
    found = load_settings(config_file=place / "strata.toml", environ={}, options={}, cwd=place).settings
    async with open_service(found) as service:
        yield Deployment(place, service)


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path) as found:
        yield found


def replaced_by(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)


def unreadable(path: Path) -> None:
    """Put a link to itself in the place: no user may read it, root neither."""
    path.unlink()
    path.symlink_to(path)


def removed_with(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def odd(path: Path) -> None:
        path.unlink()
        make(path)

    return odd


WRONG: dict[str, Callable[[Path], None]] = {
    "emptied": replaced_by(b""),
    "blank lines": replaced_by(b"\n\n"),
    "binary": replaced_by(bytes(range(256)) * 9),
    "not UTF-8": replaced_by(b"# \xff\xfe\n"),
    "UTF-16": replaced_by("[tool.strata]\n".encode("utf-16")),
    "NUL": replaced_by(b"\x00"),
    "half a key": replaced_by(b"[tool.str"),
    "another table": replaced_by(b'[tools]\nx = "y"\n'),
    "5,000 digits": replaced_by(
        f"[tool.strata]\nbulk_slots = {NUMBER}\n[tenants.a]\nbulk_slots = {NUMBER}\n".encode()
    ),
    "10,000 brackets": replaced_by(b"x = " + b"[" * 10_000),
    "10,000 levels": replaced_by(b"[" + b"a." * 10_000 + b"a]\n"),
    "a directory": removed_with(Path.mkdir),
    "a pipe": removed_with(os.mkfifo),
    "a device": removed_with(lambda path: path.symlink_to("/dev/zero")),
    "a loop of links": unreadable,
    "removed": Path.unlink,
}


TEXT = {"half a key", "another table", "5,000 digits", "10,000 brackets", "10,000 levels"}
"""Oddities that are lines of text, and so may be a secret."""


@pytest.mark.parametrize(
    ("name", "odd"),
    [(name, odd) for name in FILES for odd in WRONG if name != "token" or odd not in TEXT],
)
async def test_an_odd_file_changes_nothing_and_one_line_says_why(
    deployment: Deployment, name: str, odd: str
) -> None:
    """A file that cannot be read or understood leaves settings, rules, limits and identities as they were."""
    before = deployment.state()
    WRONG[odd](deployment.place / name)
    with capture_logs() as lines, trio.fail_after(30):
        await deployment.read(name)

    assert before == deployment.state()
    assert ["warning"] == [line["log_level"] for line in lines], lines


@pytest.mark.parametrize("name", ["strata.toml", "rules.toml", "limits.toml"])
async def test_a_mark_at_the_beginning_is_no_part_of_a_file(deployment: Deployment, name: str) -> None:
    """A file with a byte order mark means the same as without."""
    before = deployment.state()
    path = deployment.place / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    with capture_logs() as lines:
        await deployment.read(name)

    assert before == deployment.state()
    assert [] == [line for line in lines if line["log_level"] != "info"]


def damaged(dice: random.Random, text: bytes) -> bytes:
    """Cut, repeat, exchange and insert pieces."""
    pieces = [
        b"\n", b"[", b"]]", b"=", b'"', b"nan", b"-1", b"1e400", b"5e-324", b"true", b"[tenants.team-b.own]",
        b"weight", b"enabled = 1", NUMBER.encode(), b"\x00", b"\xff", b'default = "allow"', b"x" * 3000,
        b"[[allow]]", b"1979-05-27", b"{}", b"bulk_slots = 1", b"tables/**/**/**", b"log_level = 7",
    ]  # fmt: skip
    found = text
    for _ in range(dice.randrange(1, 5)):
        at, end = sorted(dice.randrange(len(found) + 1) for _ in range(2))
        match dice.randrange(4):
            case 0:
                found = found[:at]
            case 1:
                found = found[:at] + found[end:]
            case 2:
                found = found[:at] + dice.choice(pieces) + found[at:]
            case 3:
                found = found[:end] + found[at:]
    return found


@pytest.mark.parametrize("name", ["strata.toml", "rules.toml", "limits.toml"])
async def test_a_damaged_file_is_taken_whole_or_not_at_all(deployment: Deployment, name: str) -> None:
    """Of 100 damaged files each is refused with one line and no change, or read as a new process reads it."""
    dice = random.Random(name)
    sound = (deployment.place / name).read_bytes()
    refused = 0
    for _ in range(100):
        before = deployment.state()
        content = damaged(dice, sound)
        (deployment.place / name).write_bytes(content)
        with capture_logs() as lines:
            await deployment.read(name)
        kinds = [line["log_level"] for line in lines]
        if "warning" in kinds:
            refused += 1
            assert ["warning"] == kinds, (content, lines)
            assert before == deployment.state(), content
        else:
            assert {"info"} >= set(kinds), (content, lines)
            (deployment.place / name).write_bytes(sound)
            await deployment.read(name)
    assert 30 < refused
    assert {} == deployment.service.registry.runtime_stats.failures


async def test_a_reload_that_fails_is_counted_and_the_next_signal_is_heard(deployment: Deployment) -> None:
    """A bug in reading, a working directory that is gone: each SIGHUP ends with its own reload."""
    causes = [RuntimeError("a bug"), FileNotFoundError(2, "No such file or directory"), None]
    heard = [trio.Event() for _ in causes]
    turn = iter(range(len(causes)))

    def read() -> Settings:
        number = next(turn)
        trio.from_thread.run_sync(heard[number].set)
        if cause := causes[number]:
            raise cause
        return attrs.evolve(deployment.service.settings, bulk_slots=7)

    stats = deployment.service.registry.runtime_stats
    with capture_logs() as lines, trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_hangups, deployment.service, None, read)
            await trio.testing.wait_all_tasks_blocked()
            for event in heard:
                os.kill(os.getpid(), signal.SIGHUP)
                await event.wait()
            while deployment.service.settings.bulk_slots != 7:
                await trio.testing.wait_all_tasks_blocked(0.001)
            nursery.cancel_scope.cancel()

    assert {"reload": 1} == stats.failures
    assert ["background task failed", "configuration refused: the old one stays"] == [
        line["event"] for line in lines if line["log_level"] != "info"
    ]


async def test_a_background_task_that_raises_is_started_again(autojump_clock: object) -> None:
    """Its exception is counted and logged, and ends neither the nursery nor the other tasks."""
    failures: Counter[str] = Counter()
    starts: list[float] = []

    async def task() -> None:
        starts.append(trio.current_time())
        if len(starts) < 4:
            raise OSError(5, "Input/output error")

    with capture_logs() as lines:
        await keep_running("watch", task, failures)

    assert {"watch": 3} == failures
    assert [0, 1, 2, 3] == [round(at - starts[0]) for at in starts]
    assert 3 == len(lines)


async def test_a_poller_that_raises_ends_no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules in effect stay, and the failure is counted by the task's name."""
    failed = trio.Event()

    async def broken(_self: FilePoller) -> None:
        failed.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(FilePoller, "watch", broken)
    async with deployed(tmp_path) as found:
        with trio.fail_after(30):
            await failed.wait()
        assert {"rules": 1} == found.service.registry.runtime_stats.failures
        assert found.service.authorizer.policy is not None
