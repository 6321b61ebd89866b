"""Environments of notebooks on an executor: made of wheels of one index, within limits; no cell changes them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from click.testing import CliRunner
from wheels_kit import sdist, wheel

from strata.cells.runner import CellJob, CellOutcome, CellRunner, Ended
from strata.cli.executor import executor as command
from strata.config.sections.notebook_environments import Lock, parse_lock
from strata.executor.sidecar import environment_files as files
from strata.executor.sidecar.environments import (
    EnvironmentLimits,
    Environments,
    EnvironmentUnusableError,
    Index,
)

OPENED: list[Environments] = []


def environments(tmp_path: Path, **limits: float) -> Environments:
    """Return environments of the wheels in ``wheels``."""
    index = Index(None, [tmp_path / "wheels"])
    found = Environments(tmp_path / "made", index, EnvironmentLimits(**limits))  # type: ignore[arg-type]
    found.open()
    OPENED.append(found)
    return found


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what a test has opened."""
    yield
    while OPENED:
        OPENED.pop().close()


async def refusal(found: Environments, text: str) -> str:
    """Return the sentence about an environment that cannot be made; nothing of it is left."""
    before = sorted(found.root.iterdir())
    with pytest.raises(EnvironmentUnusableError) as raised:
        async with found.using(parse_lock(text)):
            raise AssertionError("it was made")
    assert before == sorted(found.root.iterdir())
    return str(raised.value)


async def run(runner: CellRunner, source: str, packages: Path, lock: str, tmp_path: Path) -> CellOutcome:
    """Run a cell in an environment."""

    async def ignore(_stream: str, _data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    job = CellJob(source=source, name="cell", lock=lock, environment=str(packages))
    with (tmp_path / "bundle").open("wb") as output:
        return await runner.run(job, output.fileno(), ignore)


async def test_a_cell_has_the_packages_of_its_environment_and_cannot_change_them(tmp_path: Path) -> None:
    """It is made once, holds no file of a wheel's scripts, and neither a cell nor its import writes to it."""
    tries = (
        "import os, pathlib\n"
        "HERE = pathlib.Path(__file__).parent\n"
        "def change():\n"
        "    (HERE / 'left.py').write_text('x = 1')\n"
    )
    lock = wheel(tmp_path / "wheels", "tiny", "1.0", {"tiny.py": f"ANSWER = 42\n{tries}"})
    found, runner = environments(tmp_path), CellRunner()
    try:
        async with found.using(parse_lock(lock)) as packages:
            good = "import tiny, sys\nassert 42 == tiny.ANSWER\nassert 'pandas' not in sys.modules"
            outcome = await run(runner, good, packages, lock, tmp_path)
            assert Ended.OK is outcome.ended, outcome
            for attempt in ("import tiny\ntiny.change()", "import tiny, os\nos.remove(tiny.__file__)"):
                outcome = await run(runner, attempt, packages, lock, tmp_path)
                assert "PermissionError" in outcome.message, outcome
            assert not (packages / "left.py").exists()
        (tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl").unlink()
        async with found.using(parse_lock(lock)) as again:  # nothing is fetched
            assert packages == again
        found.close()
        later = environments(tmp_path)
        async with later.using(parse_lock(lock)) as kept:  # also not by the next process
            assert packages == kept
    finally:
        await runner.close()


async def test_a_cell_without_its_environment_does_not_run(tmp_path: Path) -> None:
    """A runner that was given a lock and no packages of it runs nothing."""
    lock = wheel(tmp_path / "wheels", "tiny", "1.0", {"tiny.py": ""})
    runner = CellRunner()
    job = CellJob(source="x = 1", name="cell", lock=lock)

    async def ignore(_stream: str, _data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    with (tmp_path / "bundle").open("wb") as output:
        outcome = await runner.run(job, output.fileno(), ignore)
    assert Ended.NOT_STARTED is outcome.ended
    assert "this worker makes none" in outcome.message
    await runner.close()


async def test_nothing_is_built_from_source(tmp_path: Path) -> None:
    """A package without a wheel is refused, and its setup.py does not run."""
    ran = tmp_path / "ran"
    lock = sdist(tmp_path / "wheels", "evil", "1.0", f"open({str(ran)!r}, 'w')\n")
    said = await refusal(environments(tmp_path), lock)
    assert "evil" in said
    assert str(tmp_path) not in said
    assert not ran.exists()


async def test_code_of_a_package_runs_behind_the_walls_only(tmp_path: Path) -> None:
    """Neither a ``.pth`` file nor a module that is called as one of Python's runs while it is made or loaded."""
    ran = tmp_path / "ran"
    mark = f"import pathlib; pathlib.Path({str(ran)!r}).write_text('')"
    files = {"evil.pth": f"{mark}\n", "sitecustomize.py": mark, "colorsys.py": mark, "numpy.py": mark}
    lock = wheel(tmp_path / "wheels", "evil", "1.0", files)
    runner = CellRunner()
    try:
        async with environments(tmp_path).using(parse_lock(lock)) as packages:
            outcome = await run(runner, "import colorsys", packages, lock, tmp_path)
            assert "PermissionError" in outcome.message  # colorsys.py, behind the walls
            assert not ran.exists()
    finally:
        await runner.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"tiny==1.0 --hash=sha256:{'0' * 64}", "Hash mismatch"),
        (f"absent==1.0 --hash=sha256:{'0' * 64}", "absent"),
        (f"numpy==0.0.1 --hash=sha256:{'0' * 64}", "strata executor lock"),
    ],
)
async def test_what_the_index_has_not_is_a_sentence(tmp_path: Path, line: str, words: str) -> None:
    """Other bytes, a package that is not there, another version of what cells have loaded."""
    wheel(tmp_path / "wheels", "tiny", "1.0", {"tiny.py": ""})
    assert words in await refusal(environments(tmp_path), line)


async def test_too_many_bytes_are_a_sentence(tmp_path: Path) -> None:
    """A small wheel that unpacks to more than an environment may have."""
    lock = wheel(tmp_path / "wheels", "large", "1.0", {"large.bin": bytes(4_000_000)})
    small = environments(tmp_path, nbytes=1_000_000)
    said = await refusal(small, lock)
    assert said.startswith("The environment ")
    small.close()  # the next one takes its directory
    async with environments(tmp_path, nbytes=5_000_000).using(parse_lock(lock)):
        pass


async def test_an_index_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    """The time limit ends uv."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = Index(f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        found = Environments(tmp_path / "made", index, EnvironmentLimits(seconds=1))
        found.open()
        OPENED.append(found)
        said = await refusal(found, f"tiny==1.0 --hash=sha256:{'0' * 64}")
    assert "within 1 s" in said


async def test_those_unused_for_longest_go(tmp_path: Path) -> None:
    """Beyond the bytes of all, except what a cell uses."""
    locks = [
        parse_lock(wheel(tmp_path / "wheels", f"p{n}", "1.0", {f"p{n}.bin": bytes(100_000)}))
        for n in range(3)
    ]
    found = environments(tmp_path, total_bytes=250_000)
    async with found.using(locks[0]) as first:
        async with found.using(locks[1]) as second:
            pass
        async with found.using(locks[2]) as third:
            assert [True, False, True] == [one.exists() for one in (first, second, third)]


async def test_cells_that_want_one_environment_wait_for_it(tmp_path: Path) -> None:
    """It is made once, also if the first one that waits leaves."""
    lock = parse_lock(wheel(tmp_path / "wheels", "tiny", "1.0", {"tiny.py": ""}))
    found, got = environments(tmp_path), []

    async def use() -> None:
        async with found.using(lock) as packages:
            got.append(packages)

    async with trio.open_nursery() as nursery:
        leaving = trio.CancelScope()

        async def leave() -> None:
            with leaving:
                await use()

        nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(use)
        leaving.cancel()
    assert 1 == len(set(got))
    assert [got[0].parent] == [one for one in found.root.iterdir() if one.is_dir()]


def writable_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have removals fail in folders without write permission, for the superuser, too."""
    for name in ("unlink", "rmdir"):
        real = getattr(os, name)

        def checked(path: Any, *, dir_fd: int | None = None, real: Callable[..., None] = real) -> None:
            above = os.stat(os.path.dirname(path) if dir_fd is None else dir_fd)  # noqa: PTH116, PTH120
            if not above.st_mode & 0o200:
                raise PermissionError(path)
            real(path, dir_fd=dir_fd)

        monkeypatch.setattr(os, name, checked)


def read_only_tree(place: Path) -> None:
    """Make a directory whose folders may not be written to, with a link that leads elsewhere."""
    (place / "packages" / "tiny").mkdir(parents=True)
    (place / "packages" / "tiny" / "__init__.py").write_text("")
    (place / "packages" / "elsewhere").symlink_to(place.parent.parent)
    for one in (place / "packages" / "tiny", place / "packages", place):
        one.chmod(0o555)


def test_a_start_removes_the_rest_of_environments_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has another name is somebody else's; read-only folders are removed for any user."""
    root, key = tmp_path / "made", "a" * 64
    for name in (
        "notes",
        "part-of-mine",
        f"{key[1:]}-cpython",
        "part-abcd_123",
        f"{key}-cpython",
        "gone-abcd_123",
    ):
        read_only_tree(root / name)
    (root / "part-file.parquet").write_text("")
    elsewhere = tmp_path.stat().st_mode
    writable_only(monkeypatch)
    found = environments(tmp_path)
    assert {} == found.made
    left = {"executor.lock", "notes", "part-of-mine", f"{key[1:]}-cpython", "part-file.parquet"}
    assert left == {one.name for one in root.iterdir()}
    assert elsewhere == tmp_path.stat().st_mode


def test_a_directory_has_one_executor(tmp_path: Path) -> None:
    """The second one is told, and removes nothing of what the first one makes."""
    found = environments(tmp_path)
    part = found.root / "part-abcd_123"
    part.mkdir()
    options = [
        "--environments",
        str(found.root),
        "--cells",
        "1",
        "--find-links",
        str(tmp_path),
        "--port",
        "0",
    ]
    done = CliRunner().invoke(command, options)
    assert 1 == done.exit_code
    assert f"Another executor uses {found.root}" in done.output
    assert part.exists()
    found.close()
    environments(tmp_path)
    assert not part.exists()


def tiny_locks(tmp_path: Path, count: int) -> list[Lock]:
    """Return locks of packages with 100 000 bytes each."""
    return [
        parse_lock(wheel(tmp_path / "wheels", f"p{n}", "1.0", {f"p{n}.bin": bytes(100_000)}))
        for n in range(count)
    ]


async def test_an_environment_whose_removal_was_cancelled_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that is interrupted while others' environments go leaves nothing half gone."""
    first, second = tiny_locks(tmp_path, 2)
    found = environments(tmp_path, total_bytes=150_000)
    async with found.using(first) as packages:
        pass
    with trio.CancelScope() as scope:
        evict = Environments._evict

        async def interrupted(self: Environments) -> None:
            scope.cancel()
            await evict(self)

        with monkeypatch.context() as patched:
            patched.setattr(Environments, "_evict", interrupted)
            async with found.using(second):
                pass
    assert scope.cancelled_caught
    assert not packages.exists()
    async with found.using(first) as again:
        assert (again / "p0.bin").exists()


async def test_what_is_left_at_the_place_of_an_environment_is_replaced(tmp_path: Path) -> None:
    """The rest of a removal that failed midway does not bar it for ever."""
    (lock,) = tiny_locks(tmp_path, 1)
    found = environments(tmp_path)
    async with found.using(lock) as packages:
        pass
    found.made.clear()
    (packages / "old").mkdir()
    async with found.using(lock) as again:
        assert packages == again
        assert (again / "p0.bin").exists()
        assert not (again / "old").exists()


async def test_two_removals_at_once_take_each_environment_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one passes over what the first one has taken."""
    locks = tiny_locks(tmp_path, 2)
    found = environments(tmp_path)
    for lock in locks:
        async with found.using(lock):
            pass
    found.limits = EnvironmentLimits(total_bytes=0)
    removed = []
    remove = files.remove

    def noted(place: Path) -> None:
        removed.append(place.name)
        remove(place)

    monkeypatch.setattr(files, "remove", noted)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(found._evict)
    assert 2 == len(removed) == len(set(removed))
    assert {"executor.lock"} == {one.name for one in found.root.iterdir()}


async def test_no_secret_of_the_index_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the sentence, however uv writes the URL, nor in uv's options, which all users of a machine see."""
    commands = []
    real = Environments._run

    async def noted(
        self: Environments, asked: Sequence[str], scratch: Path, directory: Path
    ) -> tuple[int, str]:
        commands.append([*asked])
        return await real(self, asked, scratch, directory)

    monkeypatch.setattr(Environments, "_run", noted)
    with socket.socket() as closed:  # it is bound, and accepts nothing
        closed.bind(("127.0.0.1", 0))
        index = Index(f"http://me:pw-9f@127.0.0.1:{closed.getsockname()[1]}/token-1/simple")
        found = Environments(tmp_path / "made", index)
        found.open()
        OPENED.append(found)
        said = await refusal(found, f"tiny==1.0 --hash=sha256:{'0' * 64}")
    assert "<url>" in said
    assert not any(word in said for word in ("pw-9f", "token-1", "127.0.0.1"))
    assert commands
    assert not any("pw-9f" in word for asked in commands for word in asked)


async def test_versions_are_compared_for_environments_that_are_there_already(tmp_path: Path) -> None:
    """An executor that was upgraded since does not run cells with two versions of one package."""
    (lock,) = tiny_locks(tmp_path, 1)
    found = environments(tmp_path)
    async with found.using(lock):
        pass
    found._loaded = {"p0": "2.0"}
    assert "strata executor lock" in await refusal(found, lock.requirements)


@pytest.mark.parametrize(
    ("marker", "compared"),
    [
        ("", True),
        ("sys_platform == 'win32'", False),
        ("sys_platform != 'win32'", True),
        ("python_version < '3'", False),
        ("python_version >= '3' and sys_platform == 'linux'", True),
        ("extra == 'more'", False),
    ],
)
async def test_versions_for_other_machines_are_not_compared(
    tmp_path: Path,
    marker: str,
    compared: bool,  # noqa: FBT001  # parametrized
) -> None:
    """A line of a lock whose marker is false here is not installed here, whatever its version."""
    kept = wheel(tmp_path / "wheels", "kept", "1.0", {"kept.py": "K = 1"})
    other = wheel(tmp_path / "wheels", "other", "1.0", {"other.py": "O = 1"})
    marked = other.replace(" --hash", f" ; {marker} --hash") if marker else other
    found = environments(tmp_path)
    found._loaded = {"other": "2.0"}
    if compared:
        assert "strata executor lock" in await refusal(found, kept + marked)
        return
    async with found.using(parse_lock(kept + marked)) as packages:
        assert (packages / "kept.py").exists()
        assert not (packages / "other.py").exists()


async def test_one_tenant_cannot_hold_all_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a tenant's environments are made, however many wait, another tenant's begins at once."""
    found = environments(tmp_path)
    locks = tiny_locks(tmp_path, 4)
    begun: list[str] = []
    release = trio.Event()
    make = Environments._make

    async def slow(self: Environments, name: str, lock: Lock) -> None:
        begun.append(lock.key)
        await release.wait()
        await make(self, name, lock)

    async def use(lock: Lock, tenant: str) -> None:
        async with found.using(lock, tenant):
            pass

    monkeypatch.setattr(Environments, "_make", slow)
    await found.loaded()
    async with trio.open_nursery() as nursery:
        for lock in locks[:3]:
            nursery.start_soon(use, lock, "loud")
        await trio.testing.wait_all_tasks_blocked()
        assert 1 == len(begun)
        nursery.start_soon(use, locks[3], "quiet")
        await trio.testing.wait_all_tasks_blocked()
        assert locks[3].key == begun[1]
        release.set()
    assert 4 == len(begun) == len(found.made)
    assert not found._of_tenants


async def test_a_failure_is_remembered_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """The same lock takes no further turn, and is tried again later."""
    found = environments(tmp_path)
    found._loaded = {}
    tries = []

    async def fail(_self: Environments, _name: str, _lock: Lock) -> None:
        tries.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise EnvironmentUnusableError("No.")

    monkeypatch.setattr(Environments, "_make", fail)
    for wait, count in ((0, 1), (29, 1), (2, 2), (1, 2)):
        await trio.sleep(wait)
        assert "No." == await refusal(found, f"tiny==1.0 --hash=sha256:{'0' * 64}")
        assert count == len(tries)
    await refusal(found, f"other==1.0 --hash=sha256:{'0' * 64}")
    assert 3 == len(tries)


@pytest.mark.parametrize(
    ("packages", "scratch", "count", "refused"),
    [(9_000, 9_000, 1, False), (11_000, 0, 1, True), (9_000, 12_000, 1, True), (1, 0, 3, True)],
)
def test_ten_thousand_bytes_are_those_of_the_packages(
    tmp_path: Path, packages: int, scratch: int, count: int, *, refused: bool
) -> None:
    """What uv has unpacked beside them counts as much again; a small file counts as a block."""
    for name, nbytes in (("packages", packages), ("scratch", scratch)):
        (tmp_path / name).mkdir()
        for number in range(count if nbytes else 0):
            (tmp_path / name / f"{number}").write_bytes(bytes(nbytes))
    assert refused == files.too_large(tmp_path, 10_000)


def test_the_command_locks_what_a_file_names(tmp_path: Path) -> None:
    """The lock holds one line for each package, which :func:`parse_lock` takes."""
    line = wheel(tmp_path / "wheels", "tiny", "1.0", {"tiny.py": ""})
    (tmp_path / "wanted.txt").write_text("tiny\n")
    options = ["lock", str(tmp_path / "wanted.txt"), "--find-links", str(tmp_path / "wheels")]
    done = CliRunner().invoke(command, options)
    assert 0 == done.exit_code, done.output
    assert line == done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--environments", "here", "--cells", "1"], "--index-url"),
        (["--environments", "here", "--find-links", "there"], "--cells"),
        (["--find-links", "there"], "--environments"),
    ],
)
def test_options_that_contradict_each_other_are_sentences(options: list[str], words: str) -> None:
    """An executor with half of them does not start."""
    done = CliRunner().invoke(command, options)
    assert 1 == done.exit_code
    assert words in done.output
