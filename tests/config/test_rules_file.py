"""Access rules in a separate file: applied whole or not at all, on request and on change, on a virtual clock."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from strata.acl import CompiledPolicy, Policy, PolicyError, Rule
from strata.config import ConfigError
from strata.config.rules_file import (
    NoRulesFile,
    RulesFile,
    RulesPlace,
    RulesRefused,
    RulesTaken,
    place_of,
    read_rules,
)
from strata.config.sources import load_settings

ONE = '[[deny]]\nprincipal = "eve"\nresource = "tables/*/db/events"\n'
TWO = ONE + '[[allow]]\nprincipal = "ana"\nresource = "tables/wh/db/*"\n'
BROKEN = TWO + '[[allow]]\nprincipal = "bob"\nresource = "tables/other/db/*"\nrows = "region = EU"\n'


@attrs.define(eq=False)
class Server:
    """The parts of a server that a rules file uses, with a file system that changes when the test sets a stamp."""

    path: Path
    seconds: float = 2.0
    policy: Policy | None = None
    looks: int = 0
    clock: int = 0
    file: RulesFile = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.file = RulesFile(self.place, lambda: self.policy, self.take, self.run)

    def place(self) -> RulesPlace:
        return RulesPlace(self.path, ("wh",), self.seconds)

    def take(self, compiled: CompiledPolicy) -> None:
        self.policy = compiled.policy

    async def run(self, function: Callable[[], Any]) -> Any:
        await trio.lowlevel.checkpoint()
        self.looks += 1
        return function()

    def write(self, text: str) -> None:
        self.path.write_text(text)
        self.clock += 1
        os.utime(self.path, (self.clock, self.clock))  # not the machine's clock, which may stand still


@pytest.fixture
def server(tmp_path: Path) -> Server:
    found = Server(tmp_path / "rules.toml")
    found.write(ONE)
    found.policy, _ = read_rules(found.path, ("wh",))
    return found


def counts(server: Server) -> tuple[int, int]:
    assert server.policy is not None
    return len(server.policy.deny), len(server.policy.allow)


async def test_a_reload_takes_the_whole_file(server: Server) -> None:
    """A reload applies all rules of the file, and reports whether they differ from those before."""
    server.write(TWO)
    taken = await server.file.reload()
    assert isinstance(taken, RulesTaken)
    assert (True, (1, 1)) == (taken.changed, counts(server))
    again = await server.file.reload()
    assert isinstance(again, RulesTaken)
    assert not again.changed


async def test_a_file_with_anything_wrong_changes_nothing(server: Server) -> None:
    """A file with problems changes no rule; result and log list all problems without values of `rows`."""
    server.write(BROKEN + 'zzz = "red"\n')
    before = server.policy
    with capture_logs() as logs:
        refused = await server.file.reload()
    assert isinstance(refused, RulesRefused)
    assert before is server.policy
    assert ["allow rule 2: unknown key `zzz`"] == list(refused.problems)
    server.write(BROKEN)
    refused = await server.file.reload()
    assert isinstance(refused, RulesRefused)
    assert "`rows` is malformed: expected a value" in refused.problems[0]
    assert "EU" not in str(refused.problems)
    [line] = logs
    assert ("warning", "access rules refused: the old ones stay") == (line["log_level"], line["event"])
    assert ["allow rule 2: unknown key `zzz`"] == line["problems"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file or directory."),
        (b"\xff\xfe", "is not UTF-8."),
        (b"[[deny]\n", "is not valid TOML: "),
        (b"a = " + b"1" * 5000, "is not valid TOML: "),
        (b'[tool.strata.acl_config]\ndefault = "deny"\n', "policy: unknown key `tool`"),
        (b"deny = 3\n", "deny: must be a list of rules, not a number"),
    ],
)
def test_what_is_no_file_of_rules_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    """A file that is unreadable, not TOML or has wrong rules is refused, and the problem names the file or rule."""
    path = tmp_path / "rules.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError) as refused:
        read_rules(path, ("wh",))
    assert says in refused.value.problems[0]


async def test_without_a_file_there_is_nothing_to_reload(tmp_path: Path) -> None:
    """A reload without `acl_file` reports that there is no file, whether or not the configuration has rules."""
    none = RulesFile(lambda: RulesPlace(None, (), 2), lambda: None, lambda _rules: None)
    assert isinstance(await none.reload(), NoRulesFile)


async def test_a_change_is_taken_once_it_has_come_to_rest(server: Server, autojump_clock) -> None:
    """Two equal checks are needed: a half-written file parses, but its last rules are missing."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.file.poller.watch)
        await trio.sleep(3)
        server.write(TWO.partition("[[allow]]")[0] + '[[deny]]\nprincipal = "x"\nresource = "**"\n')
        await trio.sleep(1.5)  # one look has seen it
        server.write(TWO)
        await trio.sleep(2)
        assert (1, 0) == counts(server), "neither half of it"
        await trio.sleep(2)
        assert (1, 1) == counts(server)
        nursery.cancel_scope.cancel()


async def test_a_change_between_the_start_and_the_first_look_is_noticed(
    server: Server, autojump_clock
) -> None:
    """A file that changes after the start has read it and before the first check is applied."""
    server.write(TWO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.file.poller.watch)
        await trio.sleep(5)
        assert (1, 1) == counts(server)
        nursery.cancel_scope.cancel()


async def test_a_broken_change_is_said_once_and_the_old_rules_stay(server: Server, autojump_clock) -> None:
    """A broken or removed file is logged once per change, and the rules before it stay."""
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.file.poller.watch)
            await trio.sleep(5)
            server.write(BROKEN)
            await trio.sleep(60)
            assert 1 == len(logs)
            server.path.unlink()
            await trio.sleep(60)
            assert 2 == len(logs)
            assert (1, 0) == counts(server)
            server.write(TWO)
            await trio.sleep(5)
            assert (1, 1) == counts(server)
            nursery.cancel_scope.cancel()
    assert ["access rules refused: the old ones stay"] * 2 + ["access rules read again"] == [
        line["event"] for line in logs
    ]


async def test_a_server_without_a_file_does_not_look_until_it_has_one(server: Server, autojump_clock) -> None:
    """With `acl_file_watch_seconds = 0` there are no checks, until SIGHUP sets an interval."""
    server.seconds = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.file.poller.watch)
        await trio.sleep(1000)
        assert 0 == server.looks
        server.seconds = 5
        server.file.poller.move()
        server.write(TWO)
        await trio.sleep(6)
        assert (1, 1) == counts(server)
        nursery.cancel_scope.cancel()


async def test_two_reloads_never_cross(server: Server, autojump_clock) -> None:
    """Of two concurrent reloads the later one reads and applies the later file."""
    slow = [5.0, 0.0]

    async def run(function: Callable[[], Any]) -> Any:
        found = function()
        await trio.sleep(slow.pop(0))
        return found

    server.file.run = run
    server.write('default = "allow"\n')
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.file.reload)
        await trio.sleep(1)
        server.write(TWO)
        nursery.start_soon(server.file.reload)
    assert (1, 1) == counts(server)


async def test_rules_of_a_file_that_is_no_longer_asked_for_are_not_taken(
    server: Server, autojump_clock, tmp_path: Path
) -> None:
    """Rules of a file are dropped if SIGHUP names another file while they are read."""

    async def run(function: Callable[[], Any]) -> Any:
        found = function()
        await trio.sleep(1)
        return found

    server.file.run = run
    server.write(TWO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.file.reload)
        await trio.sleep(0.5)
        server.path = tmp_path / "other.toml"
    assert (1, 0) == counts(server)


def test_rules_of_a_file_are_the_configurations_rules(tmp_path: Path) -> None:
    """Every command reads the rules of `acl_file` at its start; problems and warnings name the setting."""
    (tmp_path / "rules.toml").write_text(TWO + 'default = "deny"\n')
    head = (
        '[tool.strata]\ndeployment_mode = "service"\nauth_mode = "trusted_proxy"\nartifact_dir = "a"\n'
        f'cache_dir = "c"\nproxy_token = "a-token-of-twenty-characters"\nacl_file = "{tmp_path}/rules.toml"\n'
        '[tool.strata.warehouses]\nwh = "w"\n'
    )
    (tmp_path / "pyproject.toml").write_text(head)

    def load(**environ: str):
        return load_settings(config_file=None, environ=environ, options={}, cwd=tmp_path)

    found = load()
    allowed = Rule("ana", "tables/wh/db/*")
    assert Policy((Rule("eve", "tables/*/db/events"),), (allowed,)) == found.settings.acl_config
    assert "rules.toml" == found.sources["acl_config"].name
    assert [True] == [warning.startswith("acl_file: allow rule 1: `default`") for warning in found.warnings]

    (tmp_path / "rules.toml").write_text(BROKEN)
    with pytest.raises(ConfigError, match="acl_file: allow rule 2: `rows` is malformed"):
        load()
    with pytest.raises(ConfigError, match=r"acl_file: .*nowhere\.toml cannot be read: No such file"):
        load(STRATA_ACL_FILE=str(tmp_path / "nowhere.toml"))
    (tmp_path / "pyproject.toml").write_text(head + '[tool.strata.acl_config]\ndefault = "deny"\n')
    with pytest.raises(ConfigError, match="acl_file: the rules are given twice"):
        load()


def test_a_home_directory_is_written_out() -> None:
    """`~` in `acl_file` is the home directory, as in every other path."""
    place = place_of("~/rules.toml", ["b", "a"], 1)
    assert Path("~/rules.toml").expanduser() == place.path
    assert ("b", "a") == place.catalogs
