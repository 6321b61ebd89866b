"""No code in a sandboxed process leaves it, and each wall is needed: without it the same attempt succeeds."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

from strata.sandbox import seccomp
from strata.sandbox.frames import Kind
from strata.sandbox.launcher import Launcher, SandboxError
from strata.sandbox.walls import WALLS, landlock_version

NUMBERS = seccomp.calls("x86_64" if os.uname().machine == "x86_64" else "aarch64")
assert NUMBERS is not None


@attrs.frozen
class Sandbox:
    """Runs code in sandboxed processes.

    Attributes:
        launcher: Starts them.
        directory: The directory that they may use.
        outside: Another one.
    """

    launcher: Launcher
    directory: Path
    outside: Path

    async def run(self, code: str, *without: str, **bounds: int) -> dict[str, object]:
        """Return the result or the error of code behind all walls but some."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with trio.fail_after(60):
                async with self.launcher.process() as process:
                    await process.give({"code": code, "without": without, **bounds}, [descriptor])
                    frame = await process.receive()
        finally:
            os.close(descriptor)
        assert Kind.DONE == frame.kind
        return dict(frame.facts())


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    found = Sandbox(Launcher("sandbox_job"), tmp_path / "inside", tmp_path / "outside")
    yield found
    await found.launcher.close()


FILES = {
    "read a file": "result = Path(OUT, 'secret').read_text()",
    "read a system file": "result = Path('/etc/passwd').read_text()",
    "write a file": "Path(OUT, 'new').write_text('x')",
    "append to a file": "Path(OUT, 'secret').open('a').write('x')",
    "list a directory": "os.listdir(OUT)",
    "remove a file": "Path(OUT, 'secret').unlink()",
    "rename a file": "os.rename(OUT + '/secret', OUT + '/gone')",
    "make a directory": "os.mkdir(OUT + '/new')",
    "make a link": "os.symlink('/etc', OUT + '/link')",
    "bring a file in": "os.link(OUT + '/secret', 'secret')",
    "truncate a file": "os.truncate(OUT + '/secret', 0)",
    "go up": "Path('../outside/secret').read_text()",
    "read the environment of the parent": "Path(f'/proc/{os.getppid()}/environ').read_bytes()",
    "write the memory of the parent": "Path(f'/proc/{os.getppid()}/mem').open('r+b')",
    "read a device": "open('/dev/zero', 'rb').read(1)",
}
"""Attempts to reach files, by what they do; OUT is a directory outside."""

CALLS = {
    "fork": "pid = os.fork()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)",
    "run a program": "subprocess.Popen(['/bin/true'])",
    "become a program": "os.execv('/bin/true', ['/bin/true'])",
    "open a TCP socket": "socket.socket()",
    "open a UDP socket": "socket.socket(type=socket.SOCK_DGRAM)",
    "open a Unix socket": "socket.socket(socket.AF_UNIX)",
    "open a netlink socket": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "make a pair of sockets": "socket.socketpair()",
    "signal the parent": "os.kill(os.getppid(), 0)",
    "watch the parent": "os.pidfd_open(os.getppid())",
    "make shared memory": f"call({NUMBERS['shmget']}, 0, 4096, 0o1600)",
    "make a message queue": f"call({NUMBERS['msgget']}, 0, 0o1600)",
    "make semaphores": f"call({NUMBERS['semget']}, 0, 1, 0o1600)",
    "use io_uring": f"call({NUMBERS['io_uring_setup']}, 1, b'\\0' * 256)",
    "make a namespace": f"call({NUMBERS['unshare']}, 0x200)",
    "keep a key": f"call({NUMBERS['keyctl']}, 0, -3, 1)",
    "learn a path": "os.readlink('/proc/self/exe')",
    "change the personality": f"call({NUMBERS['personality']}, 0xffffffff)",
}
"""Attempts that a system call makes, by what they do."""

BY_LANDLOCK = {"run a program": 1, "become a program": 1, "signal the parent": 6}
"""Those that Landlock refuses, too, from which of its versions on."""


@pytest.mark.parametrize("attempt", FILES)
async def test_no_file_outside_can_be_reached(sandbox: Sandbox, attempt: str) -> None:
    """Each attempt fails behind all walls; without Landlock alone it succeeds, or another wall is shown, too."""
    code = f"OUT = {str(sandbox.outside)!r}\n{FILES[attempt]}"
    found = await sandbox.run(code)
    assert found.get("error") in ("EACCES", "EXDEV", "EPERM"), found
    assert "secret" == (sandbox.outside / "secret").read_text()
    alone = await sandbox.run(code, "landlock")
    if "parent" not in attempt:
        assert "error" not in alone
        return
    if not os.geteuid():  # a process without privileges reaches nothing of one that has some
        assert "EACCES" == alone.get("error"), alone
    assert "error" not in await sandbox.run(code, "landlock", "private")


@pytest.mark.parametrize("attempt", CALLS)
async def test_no_call_reaches_anything_outside(sandbox: Sandbox, attempt: str) -> None:
    """Each attempt is refused by the filter of calls; without it alone the system does it, or knows of none."""
    code = CALLS[attempt]
    found = await sandbox.run(code)
    assert "EPERM" == found.get("error"), found
    missing = ["seccomp"]
    if attempt in BY_LANDLOCK:
        if landlock_version() >= BY_LANDLOCK[attempt]:
            alone = await sandbox.run(code, *missing)
            assert alone.get("error") in ("EACCES", "EPERM"), alone
        missing.append("landlock")
    if attempt == "become a program":
        with pytest.raises(SandboxError):
            await sandbox.run(code, *missing)
        return
    other = await sandbox.run(code, *missing)
    assert other.get("error") in (None, "ENOSYS", "EINVAL", "EFAULT"), other


async def test_the_own_directory_can_be_used(sandbox: Sandbox) -> None:
    """The walls leave what a computation needs: files in its directory, threads, memory."""
    code = """
Path('new').write_text('x')
os.rename('new', 'other')
result = Path('other').read_text()
os.unlink('other')
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
"""
    assert {"missing": [], "result": "'x'"} == await sandbox.run(code)


async def test_no_address_answers(sandbox: Sandbox) -> None:
    """Three walls forbid a connection, each of them alone; without all three it is made."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"socket.create_connection({server.getsockname()!r}, timeout=5)"
        every = ("seccomp", "network", "landlock")
        refusals = {wall: await sandbox.run(code, *(one for one in every if one != wall)) for wall in every}
        assert "EPERM" == refusals["seccomp"].get("error")
        assert "EACCES" == refusals["landlock"].get("error")
        assert refusals["network"].get("error") in ("ENETUNREACH", "ECONNREFUSED")
        assert "error" not in await sandbox.run(code, *every)


BOUNDS = {
    "memory": ("result = len(bytearray(1 << 29))", "MemoryError"),
    "mapped memory": (
        "result = len(mmap.mmap(-1, 1 << 29, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))",
        "ENOMEM",
    ),
    "a large file": ("result = Path('large').write_bytes(bytes(2 << 20))", "EFBIG"),
    "many files": ("result = len([os.dup(1) for _ in range(1000)])", "EMFILE"),
    "higher limits": ("resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, 1 << 40))", "ValueError"),
}
"""Attempts to take more than a process may, and how they end."""


@pytest.mark.parametrize("attempt", BOUNDS)
async def test_more_than_the_limit_is_refused(sandbox: Sandbox, attempt: str) -> None:
    """A bound of the kernel ends the attempt, and without it the attempt succeeds."""
    code, error = BOUNDS[attempt]
    found = await sandbox.run(code)
    assert error == found.get("error"), found
    assert "error" not in await sandbox.run(code, "limits")


async def test_endless_work_and_endless_recursion_end(sandbox: Sandbox) -> None:
    """The kernel kills a process that uses the processor for too long; recursion is an error."""
    assert "RecursionError" == (await sandbox.run("def f(): f()\nf()")).get("error")
    with pytest.raises(SandboxError):
        await sandbox.run("while True: pass", cpu_seconds=1)


async def test_a_process_has_nothing_of_the_servers_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable, no standard input and no privilege is passed on."""
    monkeypatch.setenv("STRATA_PROXY_TOKEN", "secret")
    code = """
status = dict(line.split(':\\t', 1) for line in Path('/proc/self/status').read_text().splitlines())
raw = Path('/proc/self/environ').read_text()
result = (dict(os.environ), 'secret' in raw, os.read(0, 1), status['NoNewPrivs'], int(status['CapEff'], 16))
"""
    found = await sandbox.run(code, "landlock", "no_tcp")
    assert "({}, False, b'', '1', 0)" == found["result"]


OUTLIVES = """
parent = os.getppid()
Path('ready').touch()
while os.getppid() == parent:
    threading.Event().wait(0.01)
"""
"""Code whose answer says that it has outlived the process that forked it."""


@pytest.mark.parametrize("wall", [True, False])
async def test_a_process_ends_with_the_one_that_forked_it(sandbox: Sandbox, *, wall: bool) -> None:
    """When the process that forks is killed, the kernel kills the others; without this wall they go on."""
    descriptor = os.open(sandbox.directory, os.O_RDONLY | os.O_DIRECTORY)
    taken_down = "" if wall else "ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)"
    async with sandbox.launcher.process() as process:
        await process.give({"code": taken_down + OUTLIVES, "without": ()}, [descriptor])
        with trio.fail_after(30):
            while not (sandbox.directory / "ready").exists():  # noqa: ASYNC110  # another process makes it
                await trio.sleep(0.01)
            forks = sandbox.launcher._server
            assert forks is not None
            forks.kill()
            if wall:
                with pytest.raises(SandboxError):
                    await process.receive()
            else:
                assert Kind.DONE == (await process.receive()).kind
    os.close(descriptor)
    assert "error" not in await sandbox.run("result = 1")  # another process that forks is started


async def test_a_cancelled_process_is_gone(sandbox: Sandbox) -> None:
    """Leaving the block kills the process, whatever it does, and no zombie stays."""
    descriptor = os.open(sandbox.directory, os.O_RDONLY | os.O_DIRECTORY)
    before = [*Path("/proc/self/fd").iterdir()]
    with trio.move_on_after(0.2):
        async with sandbox.launcher.process() as process:
            pid = process.pid
            await process.give({"code": "while True: pass", "without": ()}, [descriptor])
            await trio.sleep_forever()
    assert "error" not in await sandbox.run("result = 1")  # after it the other one has been reaped
    assert not Path(f"/proc/{pid}").exists()
    assert 0 == sandbox.launcher.running
    assert len(before) + 1 >= len([*Path("/proc/self/fd").iterdir()])
    os.close(descriptor)


async def test_a_process_that_does_not_end_holds_up_no_other(sandbox: Sandbox) -> None:
    """The process that forks waits for none; one that hangs is reaped when it has ended."""
    descriptor = os.open(sandbox.directory, os.O_RDONLY | os.O_DIRECTORY)
    async with sandbox.launcher.process() as process:
        await process.give({"code": "threading.Event().wait()", "without": ()}, [descriptor])
        await sandbox.launcher._forget(process.pid)
        assert "error" not in await sandbox.run("result = 1")
        assert Path(f"/proc/{process.pid}").exists()
    assert "error" not in await sandbox.run("result = 1")
    assert not Path(f"/proc/{process.pid}").exists()
    os.close(descriptor)


async def test_missing_walls_are_named(sandbox: Sandbox) -> None:
    """A wall that is left out is not reported as missing; one that cannot be raised is."""
    code = "result = 1"
    assert [] == (await sandbox.run(code))["missing"]
    assert {"die_with_parent", "limits", "network", "private", "landlock", "no_tcp", "seccomp"} == set(WALLS)


def test_every_call_of_the_filter_is_known_on_both_machines() -> None:
    """The filter ends in a permission, and forbids the same kinds of calls on both machines."""
    x86, arm = seccomp.calls("x86_64"), seccomp.calls("aarch64")
    assert x86 is not None
    assert arm is not None
    assert set(arm) <= set(x86)
    assert {"fork", "vfork", "mknod", "readlink"} == set(x86) - set(arm)
    assert seccomp.program("riscv64") is None
    for machine in ("x86_64", "aarch64"):
        code = seccomp.program(machine, pid=7)
        assert code is not None
        assert 0 == len(code) % 8
        assert (0x7FFF0000).to_bytes(4, "little") == code[-4:]
