"""The analyser's child processes: hostile cells end a child, never the server, and cost their time."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from strata.notebooks.names import analyser as module
from strata.notebooks.names import name_flow
from strata.notebooks.names.analyser import ATTEMPTS, CPU_SECONDS, Analyser
from strata.notebooks.names.analysis import analyse
from strata.outcomes import RefusalError

HOSTILE = (
    "(" * 60_000, "[" * 199 + "]" * 199, "-" * 60_000 + "1", "not " * 15_000 + "1", "a." * 30_000 + "b", "x" * 64_000,
    "lambda:" * 9_000 + "1", "f'{" * 20_000, "a if b else " * 5_000 + "c", "1+" * 30_000 + "1", "x=" * 30_000 + "1",
    "\n".join(" " * n + "if a:" for n in range(90)) + "\n" + " " * 90 + "b", "'\\N{DIGIT ONE}'" * 4_000,
    "del " + "(" * 150 + "a" + ")" * 150, "with " + "(" * 150 + "a" + ")" * 150 + ": pass", "\\\n" * 30_000, "\x00", "\ufeff",
    "{" * 150 + "1 2" + "}" * 150, "f(" * 150 + "a b" + ")" * 150, "[x for x in " * 90 + "y" + "]" * 90, "0x" + "f" * 60_000,
    "try:\n pass\nexcept: pass\n" * 2_500, "def f():\n global z\n z=1\n" * 2_500, "\n".join(f"if c: v{n} = 1" for n in range(4_000)),
)  # fmt: skip


@pytest.fixture
def analyser() -> Iterator[Analyser]:
    made = Analyser()
    yield made
    made.close()


def test_a_child_analyses_as_the_function_does(analyser: Analyser) -> None:
    """The child's analysis is the same; one child serves many cells, and reports its seconds."""
    sources = ["x = y", "from m import *", "x = (", "d[0] = 1", ""]
    found = [analyser.analyse("python", source) for source in sources]
    assert [analyse("python", source) for source in sources] == [one.analysis for one in found]
    assert all(0 <= one.seconds < CPU_SECONDS for one in found)
    [child] = analyser._idle
    given = Path(f"/proc/{child.process.pid}/environ").read_text().strip("\0").split("\0")
    assert {"LC_ALL", "PYTHONPATH"} == {one.partition("=")[0] for one in given}
    sql = "SELECT " + "a, " * 500 + "b"
    assert analyse("sql", sql) == analyser.analyse("sql", sql).analysis


@pytest.mark.parametrize("source", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_cells_have_an_analysis(analyser: Analyser, source: str) -> None:
    """Deep, long and odd sources up to the bound are analysed or found faulty, in bounded time."""
    found = analyser.analyse("python", source[:65_536])
    assert found.seconds < CPU_SECONDS
    assert found.analysis.error or found.analysis.names >= 0


def test_time_grows_with_the_length_only() -> None:
    """Twice as many blocks are gone through twice as often: the order of the blocks spares all repetition."""

    def passes(count: int) -> int:
        source = "\n".join(f"try: v{n} = f()\nexcept E: w{n} = 2\nif c: u{n} = 1" for n in range(count))
        flow = name_flow._Flow(compile(source, "", "exec"), "module")
        gone: list[int] = []
        inner = flow._pass
        flow._pass = lambda index, state, leaders: gone.append(index) or inner(index, state, leaders)
        flow.run()
        assert len(flow.instructions) > 10 * count
        return len(gone)

    few = passes(50)
    assert few < 50 * 20
    assert passes(100) <= 2 * few + 10


def test_a_cell_that_ends_the_child_is_too_complex(analyser: Analyser, monkeypatch) -> None:
    """A cell that ends every child is a finding and charged; the next cell has a new child."""

    class Deadly(module._Child):
        def ask(self, question: bytes) -> bytes:
            os.kill(self.process.pid, signal.SIGKILL)
            return super().ask(question)

    with monkeypatch.context() as changed:
        changed.setattr(module, "_Child", Deadly)
        found = analyser.analyse("python", "x = 1")
    assert ("too_complex", True) == (found.analysis.findings[0].code, found.analysis.error)
    assert ATTEMPTS * CPU_SECONDS == found.seconds
    assert [] == analyser._idle
    assert ["x"] == analyser.analyse("python", "x = 1").analysis.defines


def test_a_child_has_limits_of_its_own(analyser: Analyser) -> None:
    """The system ends a child that takes too much memory, or too much of the processor for one cell."""
    analyser.analyse("python", "x = 1")
    [child] = analyser._idle
    limits = Path(f"/proc/{child.process.pid}/limits").read_text()
    [cpu] = re.findall(r"Max cpu time +(\d+)", limits)
    [data] = re.findall(r"Max data size +(\d+)", limits)
    assert CPU_SECONDS < int(cpu) <= CPU_SECONDS + 10
    assert 512 << 20 == int(data)


def test_no_process_is_a_refusal(analyser: Analyser, monkeypatch) -> None:
    """Where no process can be started the request is refused: that says nothing about the cell."""

    def none(*_args, **_kwargs):
        raise OSError(11, "no processes")

    monkeypatch.setattr(module.subprocess, "Popen", none)
    with pytest.raises(RefusalError):
        analyser.analyse("python", "x = 1")
