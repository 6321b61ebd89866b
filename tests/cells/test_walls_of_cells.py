"""Nothing that a cell tries reaches beyond it: each attempt ends in an outcome with a sentence.

What each wall is for, and that without it the same attempt succeeds, is shown for every kind of sandboxed
process in tests/sandbox; here for the walls that cells use in their own way.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cell_kit import cells

CALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ndef call(*a):\n    r = libc.syscall(*a)\n    if r < 0: raise OSError(ctypes.get_errno(), 'refused')\n    return r\n"

REFUSED = {
    "the server's files": "open(OUTSIDE).read()",
    "the server's directory": "import os; os.listdir(os.path.dirname(OUTSIDE))",
    "a link to a file": "import os; os.symlink(OUTSIDE, '/tmp/strata-link')",
    "a hard link": "import os; os.link(OUTSIDE, '/tmp/strata-link')",
    "passwords": "open('/etc/passwd').read()",
    "a new file": "open('/tmp/strata-cell', 'w')",
    "a file in memory's file system": "open('/dev/shm/strata-cell', 'w')",
    "a temporary file": "import tempfile; tempfile.TemporaryFile()",
    "a new directory": "import os; os.mkdir('/tmp/strata-dir')",
    "a library's file": "import os; open(os.__file__, 'a')",
    "removing a library": "import os; os.unlink(os.__file__)",
    "the server's environment": "open(f'/proc/{SERVER}/environ').read()",
    "the parent's environment": "import os; open(f'/proc/{os.getppid()}/environ').read()",
    "its own environment by /proc": "open('/proc/self/environ').read()",
    "command lines of processes": "open(f'/proc/{SERVER}/cmdline').read()",
    "a list of processes": "import os; os.listdir('/proc')",
    "another's memory": "open(f'/proc/{SERVER}/mem', 'rb')",
    "another's descriptors": "import os; os.listdir(f'/proc/{SERVER}/fd')",
    "the system's log": "open('/dev/kmsg')",
    "a raw disk": "open('/dev/vda', 'rb')",
    "a program": "import os; os.execv('/bin/true', ['true'])",
    "a child with a program": "import subprocess; subprocess.run(['/bin/true'])",
    "a shell": "import os; assert os.system('true') == 0",
    "a fork": "import os; os.fork()",
    "a process pool": "import multiprocessing as m; m.get_context('fork').Process(target=print).start()",
    "a socket": "import socket; socket.socket()",
    "a connection to the server": "import socket; socket.create_connection(('127.0.0.1', 8765), 1)",
    "the metadata address": "import urllib.request; urllib.request.urlopen('http://169.254.169.254/', timeout=1)",
    "a local socket": "import socket; socket.socket(socket.AF_UNIX)",
    "a pair of sockets": "import socket; socket.socketpair()",
    "a netlink socket": "import socket; socket.socket(socket.AF_NETLINK)",
    "a name": "import socket; socket.getaddrinfo('example.org', 80)",
    "a signal to the server": "import os, signal; os.kill(SERVER, signal.SIGTERM)",
    "a signal to all": "import os, signal; os.kill(-1, 0)",
    "a signal to its group": "import os, signal; os.killpg(0, signal.SIGTERM)",
    "a descriptor of a process": "import os; os.pidfd_open(SERVER)",
    "tracing": CALL + "call(101, 16, SERVER, 0, 0)",
    "reading memory": CALL + "call(310, SERVER, 0, 0, 0, 0, 0)",
    "a name space": CALL + "call(272, 0x10000000)",
    "a mount": CALL + "call(165, b'none', b'/tmp', b'tmpfs', 0, 0)",
    "a new root": CALL + "call(161, b'/tmp')",
    "more time": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))",
    "more memory": "import resource; resource.setrlimit(resource.RLIMIT_DATA, (2**50, 2**50))",
    "more priority": "import os; os.nice(-10); assert os.nice(0) >= 0",
    "another user": "import os; os.setuid(1)",
    "a key of the kernel": CALL + "call(250, 0, -3, 1)",
    "shared memory of the system": CALL + "call(29, 1, 4096, 0o1666)",
    "a message queue": CALL + "call(68, 1, 0o1666)",
    "a program for the kernel": CALL + "call(321, 0, 0, 0)",
}
"""What cells try, by what it would reach; numbers of calls are those of x86-64."""


def code(attempt: str, outside: Path) -> str:
    return f"OUTSIDE, SERVER = {str(outside)!r}, {os.getpid()}\n{attempt}"


@pytest.mark.slow
@pytest.mark.skipif("x86_64" != os.uname().machine, reason="numbers of calls are those of x86-64")
async def test_no_attempt_reaches_beyond_the_cell(tmp_path: Path) -> None:
    """Each attempt raises in the cell; its message is a sentence of the outcome, and nothing is left."""
    outside = tmp_path / "secret"
    outside.write_text("secret")
    async with cells() as found:
        for what, attempt in REFUSED.items():
            ran = await found.run(code(attempt, outside))
            assert "raised" == ran.ended.value, (what, ran.outcome)
            assert ran.outcome.message, what
        assert 0 == found.runner.launcher.running
    for left in ("/tmp/strata-link", "/tmp/strata-cell", "/dev/shm/strata-cell", "/tmp/strata-dir"):
        assert not Path(left).exists()


async def test_a_cell_has_no_environment_and_no_files() -> None:
    """It sees no variable of the server's, and no descriptor but its own link and results."""
    os.environ["STRATA_PROXY_TOKEN"] = "a-secret-of-the-server"
    try:
        async with cells() as found:
            ran = await found.run(
                "import os\ndef is_open(n):\n    try: os.fstat(n)\n    except OSError: return False\n    return True\n"
                "dict(os.environ), sum(map(is_open, range(256)))"
            )
            environment, count = ran.shown()[0].rsplit(", ", 1)
            assert "({}" == environment
            # Standard input, output and error are /dev/null; the link, the results, random numbers.
            assert int(count.rstrip(")")) <= 6, ran.shown()
    finally:
        del os.environ["STRATA_PROXY_TOKEN"]


NEEDED = (
    ("landlock", "the server's files"),
    ("landlock", "the server's directory"),
    ("landlock", "passwords"),
    ("landlock", "a list of processes"),
    ("landlock", "command lines of processes"),
    ("landlock", "its own environment by /proc"),
    ("landlock", "the parent's environment", "private"),
    ("private", "the parent's environment", "landlock"),
    ("seccomp", "a socket"),
    ("seccomp", "a local socket"),
    ("seccomp", "a pair of sockets"),
    ("seccomp", "a fork"),
    ("seccomp", "a descriptor of a process"),
    ("limits", "more time", "seccomp", "private"),
    ("limits", "more memory", "seccomp", "private"),
)
"""A wall, a harmless attempt that it refuses, and further walls that refuse it or are in its way."""


async def test_each_wall_is_needed(tmp_path: Path) -> None:
    """Behind its wall alone an attempt is refused, and without it the same attempt succeeds."""
    outside = tmp_path / "secret"
    outside.write_text("secret")
    async with cells() as found:
        for wall, what, *others in NEEDED:
            attempt = REFUSED[what]
            if what == "a fork":
                attempt = "import os\nif not os.fork(): os._exit(0)"
            ran = await found.run(code(attempt, outside), without=others)
            assert "raised" == ran.ended.value, (wall, what, ran.outcome)
            ran = await found.run(code(attempt, outside), without=(wall, *others))
            assert ran.outcome.ok, (wall, what, ran.outcome)


async def test_a_cell_cannot_pass_for_another_one() -> None:
    """What a cell writes into its link itself is its own outcome, or no outcome at all."""
    async with cells() as found:
        for source, ended in {
            "import os\nfor n in range(3, 20):\n    try: os.write(n, b'\\xff' * 64)\n    except OSError: pass": "process_ended",
            "import os\nfor n in range(3, 20):\n    try: os.close(n)\n    except OSError: pass\nprint(1)": "process_ended",
        }.items():
            assert ended == (await found.run(source)).ended.value
        assert (await found.run("1")).outcome.ok
