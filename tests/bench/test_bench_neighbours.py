"""The benchmark of neighbours runs end to end and draws its figures."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    yield {name: importlib.import_module(name) for name in ("neighbours", "picture")}
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(BENCH) in str(sys.modules[name].__file__):
            del sys.modules[name]


def test_a_percentile_is_a_value_that_was_measured(modules) -> None:
    """A percentile is one of the values; the 99th of at most a hundred is the largest."""
    percentile = modules["neighbours"].percentile
    assert 99 == percentile(list(range(100)), 0.99)
    assert 50 == percentile(list(range(100)), 0.5)
    assert 3 == percentile([1, 3, 2], 0.99)


def test_a_scene_says_what_was_kept_and_what_was_lost(modules) -> None:
    """A scene reports each run's percentile and the median over the runs."""
    neighbours = modules["neighbours"]
    scene = neighbours.SCENES[0]
    seen = neighbours.Seen(
        alone=[[0.001] * 100, [0.001] * 100],
        together=[[0.002] * 100, [0.004] * 100],
        solo_rates=[100e6, 100e6],
        kept_rates=[90e6, 70e6],
    )
    median, tail, kept = neighbours.figures_of(scene, seen)
    assert (3.0, 3.0) == (round(median.ratio, 6), round(tail.ratio, 6))
    assert (True, True) == (tail.met, kept.met)
    assert 0.8 == kept.ratio


def test_distinct_scans_share_no_segment(modules) -> None:
    """No scan has all columns of another, so none is answered from another's cached segments."""
    neighbours = modules["neighbours"]
    wanted = [frozenset(neighbours._all_but(number)) for number in range(neighbours.SCANS)]
    assert not any(one <= other for one in wanted for other in wanted if one is not other)


def test_a_picture_is_an_image_with_its_labels(modules) -> None:
    """Labels are escaped, whatever characters they have."""
    picture = modules["picture"]
    curves = [picture.Curve("alone", [0.001, 0.002, 0.01]), picture.Curve("beside <others>", [0.1, 0.2])]
    root = ET.fromstring(picture.latencies("A & B", curves))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"A & B", "alone", "beside <others>", "99 %"} <= set(texts)
    assert 2 == len(list(root.iter("{http://www.w3.org/2000/svg}polyline")))


@pytest.mark.nightly
@pytest.mark.alone
def test_every_scene_is_measured_and_nobody_quiet_fails(tmp_path: Path) -> None:
    """A small run of every scene ends without failures; its speeds do not count."""
    done = subprocess.run(
        [
            sys.executable, str(BENCH / "neighbours.py"), "--rows", "20000", "--runs", "1", "--seconds", "1", "--rest", "0",
            "--json", "--pictures", str(tmp_path / "pictures"),
        ],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONSAFEPATH": ""}, timeout=300,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert 0 == found["failed"]
    assert {"bulk", "fifty", "flood", "mixed", "loop", "hung"} == {
        line["name"].partition(":")[0] for line in found["figures"]
    }
    assert 6 == len(list((tmp_path / "pictures").glob("*.svg")))
