"""The benchmark of the access rules runs, checks every answer, and has the published aims."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "acl.py"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("bench_acl", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["bench_acl"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_acl"]


def test_three_engines_give_the_same_answers(bench) -> None:
    """Each engine's decisions, allowed and denied, are checked while they are measured."""
    policy = bench.policy_of(200)
    asked = bench.requests_of(policy, 40)
    assert {True, False} == {allowed for _, allowed in asked}
    for engine in (bench.ours, bench.cedar, bench.casbins):
        assert 40 == len(bench.latencies(engine(policy), asked, 60.0)), engine


def test_a_wrong_answer_ends_the_measurement(bench) -> None:
    """An engine that answers wrongly gets no figure."""
    policy = bench.policy_of(200)
    with pytest.raises(AssertionError, match="a wrong answer"):
        bench.latencies(lambda _request: True, bench.requests_of(policy, 40), 60.0)


def test_the_aims_are_those_of_the_promise(bench) -> None:
    """The aims are 20 µs at 10,000 rules, and at most 1.5 times as much from 1,000 to 100,000."""

    def figures(p99_small: float, p99: float, p99_large: float) -> dict[int, dict[str, object]]:
        sizes = {1_000: p99_small, 10_000: p99, 100_000: p99_large}
        return {
            size: {"strata": bench.Figure(p50=5.0, p99=value, samples=9)} for size, value in sizes.items()
        }

    assert [True, True, True] == [aim.met for aim in bench._aims(figures(10, 20, 15))]
    assert [False, True, False] == [aim.met for aim in bench._aims(figures(10, 21, 16))]


def test_it_prints_a_table_and_says_what_was_missed(bench, monkeypatch, capsys) -> None:
    """``--check`` exits with 1 when an aim is missed."""
    monkeypatch.setattr(
        sys, "argv", ["acl.py", "--runs", "1", "--decisions", "40", "--sizes", "20", "10000", "--check"]
    )
    monkeypatch.setattr(bench, "AIM_P99_US", 0.001)
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert 1 == ended.value.code
    printed = capsys.readouterr().out
    assert "| 10,000 | cedarpy |" in printed
    assert "p99 at 10,000 rules, µs: " in printed
    assert "MISSED" in printed
