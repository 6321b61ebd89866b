"""The benchmark runs end to end, and its table has the measured figures."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    for name in ("figures", "picture"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("figures")


def test_a_ratio_is_the_median_of_the_runs_ratios(figures) -> None:
    """Neither one slow run nor a machine that is faster in one run moves the ratio."""
    figure = figures.Figure("a", "b", "MB/s", [80, 90, 1], [100, 100, 9000], 0.8)
    assert 0.8 == figure.ratio
    assert figure.met is True
    assert 0.9 == figures.Figure("a", "b", "MB/s", [9, 90, 45], [10, 100, 150], 0.8).ratio


@pytest.mark.parametrize(
    ("sense", "ratio", "met"), [("≥", 2.1, True), ("≥", 1.9, False), ("≤", 1.9, True), ("≤", 2.1, False)]
)
def test_an_aim_has_a_direction(figures, sense: str, ratio: float, met: bool) -> None:  # noqa: FBT001  # parametrized
    """Throughput must be at least its aim, a delay at most."""
    assert met is figures.Figure("a", "b", "", [ratio], [1.0], 2, sense).met


@pytest.mark.parametrize(
    ("ratio", "bound", "verdict"),
    [
        (0.81, [0.9], "yes"),
        (0.7, [], "NO"),
        (0.7, [0.9], "NO, the machine allows 0.90"),
        (0.7, [0.75], "cannot be shown here, the machine allows 0.75"),
    ],
)
def test_an_aim_that_the_machine_does_not_allow_is_no_miss(
    figures, tmp_path: Path, ratio: float, bound: list[float], verdict: str
) -> None:
    """It is printed with its bound, and ``--check`` passes; the page and its picture have the figure."""
    figure = figures.Figure("a scan", "bare", "MB/s", [ratio], [1.0], 0.8, bound=bound)
    parser = argparse.ArgumentParser()
    figures.add_options(parser)
    status = figures.report([figure], parser.parse_args(["--check", "--report", str(tmp_path / "found")]))
    assert verdict.startswith("NO") == (status == 1)
    assert f"| {verdict} " in (tmp_path / "found" / "figures.md").read_text()
    texts = ET.fromstring((tmp_path / "found" / "ratios.svg").read_text()).itertext()
    assert f"a scan: {ratio:.2f}" in texts


def test_what_cannot_be_compared_is_neither_met_nor_missed(figures) -> None:
    """Without a baseline the table has no ratio and says so."""
    figure = figures.Figure("a", "b", "ms", [1.0], [], 2)
    assert (None, None) == (figure.ratio, figure.met)
    assert "out of reach" in figures.table([figure])


def test_a_bare_scan_that_fails_ends(tmp_path: Path, monkeypatch) -> None:
    """A bare scan whose thread fails ends with the error instead of waiting for ever."""
    monkeypatch.syspath_prepend(str(BENCH))
    bare_scan = importlib.import_module("bare_scan")
    monkeypatch.delitem(sys.modules, "bare_scan")
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": range(100)}), path, row_group_size=10)
    taken: list[int] = []

    def take(pieces) -> None:
        taken.append(pieces.size)
        if len(taken) == 3:
            raise BrokenPipeError("the client left")

    with pytest.raises(BrokenPipeError):
        bare_scan.scan([str(path)], 2, take)
    assert 3 == len(taken)


def environment() -> dict[str, str]:
    """Return our environment, with the benchmark's own modules importable."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}


@pytest.mark.slow
@pytest.mark.alone
def test_the_bench_measures_every_aim() -> None:
    """A smoke run over a few rows gives a ratio for each aim."""
    command = [
        sys.executable,
        str(BENCH / "run.py"),
        "--rows",
        "20000",
        "--runs",
        "1",
        "--pairs",
        "5",
        "--json",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment()
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert 20000 == report["rows"]
    aims = {figure["name"]: figure["aim"] for figure in report["figures"] if figure["aim"]}
    assert {
        "cold full scan": "≥ 0.8",
        "cached full scan": "≥ 0.7",
        "first byte, cold": "≤ 2",
        "first rows, cold": "≤ 2",
        "small materialize + fetch": "≥ 0.3",
    } == aims
    assert all(figure["ratio"] > 0 for figure in report["figures"])
    names = [figure["name"] for figure in report["figures"]]
    assert sorted(set(names)) == sorted(names)
    assert {"no server, only sent", "no server, written and sent"} < set(names)
    assert {"two columns, of cached segments", "after an append of one file"} < set(names)


@pytest.mark.parametrize("path", ["/send", "/keep"])
def test_the_bare_scan_sends_every_row_in_order(path: str, tmp_path: Path, monkeypatch) -> None:
    """The baseline does a server's whole work: each row group is a stream, decoded by two threads."""
    monkeypatch.syspath_prepend(str(BENCH))
    servers = importlib.import_module("servers")
    files = []
    for number, rows in enumerate((50_000, 50, 50)):  # the first file takes longest, and comes first
        table = pa.table(
            {"id": range(number * 50_000, number * 50_000 + rows), "text": ["x" * number] * rows}
        )
        files.append(tmp_path / f"{number}.parquet")
        pq.write_table(table, files[-1], row_group_size=rows // 2)
    listing = json.dumps([str(file) for file in files]).encode()
    with servers.bare("bare_scan", listing, tmp_path / "base", "2") as target, target.connect() as connection:
        bodies = [connection.get(path, keep=True).body for _ in range(2)]
        kept = tmp_path / "base" / "bare_scan.rows"
        assert bodies[0] == kept.read_bytes() if path == "/keep" else not kept.exists()
    for name in ("servers", "wire"):
        monkeypatch.delitem(sys.modules, name)
    assert bodies[0] == bodies[1]
    source, ids = pa.BufferReader(bodies[0]), []
    while source.tell() < source.size():
        ids += pa.ipc.open_stream(source).read_all()["id"].to_pylist()
    assert [*range(50_050), *range(100_000, 100_050)] == ids


@pytest.mark.slow
@pytest.mark.alone
def test_the_bench_measures_a_server_that_is_not_its_own(tmp_path: Path, monkeypatch) -> None:
    """``--against`` takes a URL, an identity and a table, and clears the cache for a cold read."""
    monkeypatch.syspath_prepend(str(BENCH))
    servers, tables = importlib.import_module("servers"), importlib.import_module("tables")
    data = tmp_path / "data"
    tables.generate(data, 2000)
    with servers.strata(tmp_path / "server", data) as target:
        command = [
            sys.executable,
            str(BENCH / "run.py"),
            "--against",
            target.url,
            "--table",
            tables.uri_of(data),
        ]
        command += [f"--header={name}: {value}" for name, value in target.headers.items()]
        command += ["--runs", "2", "--pairs", "5"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, env=environment()
        )
    for name in ("servers", "tables", "wire"):
        monkeypatch.delitem(sys.modules, name)
    assert 0 == done.returncode, done.stderr[-4000:]
    assert f"against: {target.url}" in done.stdout
    assert "| cold full scan" in done.stdout
    assert "out of reach" not in done.stdout
