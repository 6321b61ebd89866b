"""Standard error is written by a thread: whatever its reader does, no caller waits and lines keep their order."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from programs import need

from strata.observability import stderr_queue
from strata.observability.stderr_queue import StderrQueue


class Pipe:
    """A file descriptor whose writes wait until they are let through, or fail."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.error: OSError | None = None
        self.data = b""
        self.calls = 0

    def write(self, _fd: int, data: memoryview) -> int:
        """Take one byte less than all, as a pipe may."""
        self.entered.set()
        assert self.open.wait(30)
        self.calls += 1
        if self.error is not None:
            raise self.error
        taken = bytes(data[: max(1, len(data) - 1)])
        self.data += taken
        return len(taken)

    def lines(self) -> list[str]:
        return self.data.decode().splitlines()


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture
def queue_of(pipe: Pipe) -> Iterator[Callable[..., StderrQueue]]:
    """Return a function that makes a queue on the pipe."""
    made: list[StderrQueue] = []

    def make(**more: int) -> StderrQueue:
        made.append(StderrQueue(-1, write=pipe.write, **more))
        return made[-1]

    yield make
    pipe.open.set()
    for queue in made:
        assert queue.end(30)


def test_lines_are_written_in_order_and_completely(pipe: Pipe, queue_of: Callable[..., StderrQueue]) -> None:
    """Whatever part of a write the pipe takes."""
    pipe.open.set()
    queue = queue_of()
    expected = [f"line {number}" for number in range(1000)]
    for line in expected:
        assert len(line) + 1 == queue.write(line + "\n")
    assert queue.end(30)
    assert expected == pipe.lines()
    assert 0 == queue.dropped


def test_a_pipe_that_nobody_reads_holds_up_no_writer(
    pipe: Pipe, queue_of: Callable[..., StderrQueue]
) -> None:
    """What finds the queue full is dropped and counted, and one line says how much when writing goes on."""
    queue = queue_of(most=50)
    queue.write("first\n")
    assert pipe.entered.wait(30)
    for number in range(100):
        queue.write(f"line {number}\n")
    assert not queue.end(0)
    held = queue._bytes
    assert held <= 50
    pipe.open.set()
    assert queue.end(30)
    *kept, told = pipe.lines()
    assert ["first", *(f"line {number}" for number in range(len(kept) - 1))] == kept
    assert {"event": "log lines dropped", "level": "warning", "lines": 101 - len(kept)} == json.loads(told)
    assert 101 - len(kept) == queue.dropped


def test_lines_after_a_gap_follow_the_line_that_tells_of_it(
    pipe: Pipe, queue_of: Callable[..., StderrQueue]
) -> None:
    """A short line that would still fit does not overtake the dropped ones."""
    queue = queue_of(most=20)
    queue.write("first\n")
    assert pipe.entered.wait(30)
    queue.write("x" * 40 + "\n")
    queue.write("y\n")
    pipe.open.set()
    while queue._missing or queue._bytes:
        pass
    queue.write("z\n")
    assert queue.end(30)
    first, told, last = pipe.lines()
    assert ("first", 2, "z") == (first, json.loads(told)["lines"], last)


def test_what_cannot_be_written_is_counted_and_fails_no_caller(
    pipe: Pipe, queue_of: Callable[..., StderrQueue]
) -> None:
    """A full disk, or a reader that left, loses lines and nothing else; later ones are tried again."""
    queue = queue_of()
    pipe.error = BrokenPipeError()
    pipe.open.set()
    queue.write("lost\n")
    while queue._bytes:
        pass
    pipe.error = None
    queue.write("kept\n")
    assert queue.end(30)
    assert (["kept"], 1) == (pipe.lines(), queue.dropped)


def test_a_pipe_that_another_process_made_non_blocking_is_waited_for() -> None:
    """EAGAIN is no loss."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    queue = StderrQueue(write)
    text = "x" * 99 + "\n"
    for _ in range(2000):  # more than a pipe holds
        queue.write(text)
    received = b""
    while len(received) < 200_000:
        received += os.read(read, 65536)
    assert queue.end(30)
    assert (text * 2000, 0) == (received.decode(), queue.dropped)
    for fd in (read, write):
        os.close(fd)


SCRIPT = """
import atexit, os, sys, warnings
from strata.observability import stderr_queue
found = stderr_queue.install()
assert found is stderr_queue.install() is sys.stderr
os.fstat(0), os.fstat(1), os.fstat(2)
warnings.warn("a warning")
if not os.fork():
    print("from the child", file=sys.stderr)
    os._exit(0)
if len(sys.argv) < 2: os.wait()
raise RuntimeError("the last words")
"""


def test_the_last_lines_of_a_process_are_written() -> None:
    """Warnings, and the traceback of what ends it; a forked process, without the thread, writes directly."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert 1 == done.returncode
    for words in ("a warning", "from the child", "the last words"):
        assert words in done.stderr


def test_closed_standard_streams_become_the_null_device() -> None:
    """Otherwise the next file that is opened would have the descriptor of standard error."""
    script = SCRIPT.replace("os.fork()", "True")
    command = [need("bash"), "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, script]
    assert 1 == subprocess.run(command, timeout=60, check=False).returncode


def test_a_process_ends_though_its_pipe_is_full() -> None:
    """The end waits a bounded time for the queue."""
    read, write = os.pipe()
    script = "import sys; from strata.observability import stderr_queue as q; q.install(); sys.stderr.write('x' * 500_000)"
    done = subprocess.run([sys.executable, "-c", script], stderr=write, timeout=60, check=False)
    assert 0 == done.returncode
    for fd in (read, write):
        os.close(fd)


def test_a_stream_that_is_not_standard_error_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """As where a program embeds the server, or a test captures its output."""
    before = sys.stderr
    assert stderr_queue.install() is None
    assert before is sys.stderr
    assert 0 == stderr_queue.dropped()
    stderr_queue.end()
