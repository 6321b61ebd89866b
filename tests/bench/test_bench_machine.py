"""The benchmark reports CPU time stolen by the machine's host."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("machine")
    sys.modules.pop("machine", None)


def test_stolen_time_is_in_seconds_over_all_cores(machine: ModuleType, tmp_path: Path) -> None:
    """It is the eighth number of the first line of ``/proc/stat``, in ticks."""
    ticks = os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text(f"cpu  1 2 3 4 5 6 7 {3 * ticks} 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    assert 3.0 == machine.stolen_seconds(stat)


@pytest.mark.parametrize("text", [None, "", "cpu  1 2 3\n", "cpu  1 2 3 4 5 6 7 eight\n"])
def test_where_nobody_counts_nothing_is_stolen(machine: ModuleType, tmp_path: Path, text: str | None) -> None:
    """Systems that do not count stolen time report none."""
    stat = tmp_path / "stat"
    if text is not None:
        stat.write_text(text)
    assert 0.0 == machine.stolen_seconds(stat)


def test_a_block_s_share_is_noted(machine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block's share of all cores is recorded, also if the block fails."""
    readings, clock = iter([1.0, 1.5]), iter([100.0, 110.0])
    monkeypatch.setattr(machine, "stolen_seconds", lambda: next(readings))
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    found: list[float] = []
    with pytest.raises(ZeroDivisionError), machine.stolen(found):
        raise ZeroDivisionError
    assert [0.5 / 20] == found
