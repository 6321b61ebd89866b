"""What a file that has taken a reader over cannot do, and that readers stand behind all walls here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import strata
from strata.readers import ReaderPool
from strata.readers.messages import Failed
from strata.readers.processes import Reader

PROGRAM = """
import json, os, socket, sys
from strata.readers.child.walls import leave_network, raise_walls

path, secret = sys.argv[1:]
given = os.open(path, os.O_RDONLY)
status = open("/proc/self/status", "rb", buffering=0)
found = {"missing": [*leave_network(), *raise_walls()]}

def attempt(name, function):
    try:
        function()
    except OSError as error:
        found[name] = type(error).__name__
    else:
        found[name] = "done"

attempt("read", lambda: open(secret).close())
attempt("write", lambda: open(os.path.join(os.path.dirname(path), "new"), "w").close())
attempt("list", lambda: os.listdir(os.path.dirname(path)))
attempt("given again", lambda: os.open(f"/proc/self/fd/{given}", os.O_RDONLY))
attempt("parent", lambda: open(f"/proc/{os.getppid()}/environ").close())
attempt("socket", lambda: socket.socket())
attempt("pair", lambda: socket.socketpair())
attempt("fork", os.fork)
attempt("program", lambda: os.execv("/bin/true", ["true"]))
attempt("kill", lambda: os.kill(os.getppid(), 0))
attempt("change library", lambda: open(os.path.join(os.path.dirname(json.__file__), "new"), "w").close())
attempt("given", lambda: os.read(given, 10))
attempt("library", lambda: open(json.__file__).close())
attempt("memory", lambda: os.close(os.memfd_create("m")))
attempt("status", lambda: status.read(10))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    own = ReaderPool(1)
    yield own
    own.close()


def test_no_code_in_a_reader_leaves_it(tmp_path: Path) -> None:
    """It opens no file, reaches no network and no process, and starts none; what it was given it reads."""
    given, secret = tmp_path / "given", tmp_path / "secret"
    given.write_text("rows of a tenant")
    secret.write_text("opensesame")
    environment = {"PYTHONPATH": str(Path(strata.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", PROGRAM, str(given), str(secret)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout)
    assert [] == found.pop("missing")
    open_to_it = {"given", "library", "memory", "status"}
    assert dict.fromkeys(open_to_it, "done") == {name: found.pop(name) for name in open_to_it}
    assert {"PermissionError"} == set(found.values())
    assert 11 == len(found)


def test_readers_stand_behind_all_walls(pool: ReaderPool) -> None:
    """The kernel of this machine has all of them."""
    assert () == pool.missing_walls()
    [reader] = pool._readers
    assert 0 == reader.load


def test_a_reader_that_does_not_say_has_no_walls(pool: ReaderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known is missing."""
    monkeypatch.setattr(Reader, "call", lambda *_: (Failed("a", "b"), None))
    assert "seccomp" in pool.missing_walls()
