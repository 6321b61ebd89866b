"""Compute ratios from samples, and print them as a table."""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import picture


@attrs.frozen
class Figure:
    """One line of the table: samples of the server beside samples of its baseline, of the same runs.

    Attributes:
        name: The measured quantity.
        baseline: The baseline's name.
        unit: Unit of both.
        measured: The server's samples, one per run.
        against: The baseline's samples, one per run; empty when it could not be measured here.
        aim: The wanted ratio, if any.
        sense: At least or at most the aim.
        bound: What the machine allows at best, one sample per run; empty when that is not measured.
    """

    name: str
    baseline: str
    unit: str
    measured: Sequence[float]
    against: Sequence[float]
    aim: float | None = None
    sense: Literal["≥", "≤"] = "≥"
    bound: Sequence[float] = ()

    @property
    def ratio(self) -> float | None:
        """The median of the runs' ratios: how fast the machine is changes from one run to the next."""
        return self._of(self.measured)

    @property
    def allowed(self) -> float | None:
        """The ratio that the machine allows at best; None where that is not known."""
        return self._of(self.bound) if self.bound else None

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without an aim or a baseline."""
        if self.aim is None or self.ratio is None:
            return None
        return self._reaches(self.ratio)

    @property
    def verdict(self) -> str:
        """``yes``, or why not: an aim beyond what the machine allows is no miss of the server's."""
        if self.met is None or self.met:
            return "yes" if self.met else ""
        if self.allowed is None:
            return "NO"
        allows = f"the machine allows {self.allowed:.2f}"
        return f"NO, {allows}" if self._reaches(self.allowed) else f"cannot be shown here, {allows}"

    def _of(self, samples: Sequence[float]) -> float | None:
        if not self.against:
            return None
        runs = zip(samples, self.against, strict=True)
        return statistics.median(measured / against for measured, against in runs)

    def _reaches(self, ratio: float) -> bool:
        assert self.aim is not None
        return ratio >= self.aim if self.sense == "≥" else ratio <= self.aim

    def as_json(self) -> dict[str, Any]:
        """Return the figure as a JSON-compatible mapping."""
        return {
            "name": self.name,
            "baseline": self.baseline,
            "unit": self.unit,
            "median": statistics.median(self.measured),
            "baseline_median": statistics.median(self.against) if self.against else None,
            "ratio": self.ratio,
            "aim": None if self.aim is None else f"{self.sense} {self.aim:g}",
            "met": self.met,
            "allowed": self.allowed,
            "samples": list(self.measured),
            "baseline_samples": list(self.against),
        }


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table, which reads as well in a terminal."""
    head = ("measured", "median", "baseline", "median", "ratio", "aim", "met")
    lines = [head, *(_cells(figure) for figure in figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`report`."""
    parser.add_argument("--runs", type=int, default=5, help="how often everything is measured (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, samples included")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write a Markdown page with a picture there"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when an aim is missed")


def report(
    lines: Sequence[Figure], options: argparse.Namespace, about: Mapping[str, object] | None = None
) -> int:
    """Print the figures of a script as its options say.

    Args:
        lines: The figures.
        options: What :func:`add_options` has added.
        about: What else decides the figures, by name.

    Returns:
        The exit status: 1 with ``check`` if an aim is missed that the machine allows.
    """
    about = {"runs": options.runs, "cores": os.cpu_count(), **(about or {})}
    told = "\n".join(f"- {name}: {value}" for name, value in about.items() if value is not None)
    if options.json:
        print(json.dumps({**about, "figures": [line.as_json() for line in lines]}, indent=2))
    else:
        print(f"{told}\n\n{table(lines)}")
    if options.report is not None:
        options.report.mkdir(parents=True, exist_ok=True)
        bars = [picture.Bar(line.name, line.ratio, line.aim) for line in lines if line.ratio]
        (options.report / "ratios.svg").write_text(picture.ratios("measured, against its baseline", bars))
        page = f"# Figures\n\n{told}\n\n{table(lines)}\n\n![Each ratio, and its aim](ratios.svg)\n"
        (options.report / "figures.md").write_text(page)
    return 1 if options.check and any(line.verdict.startswith("NO") for line in lines) else 0


def _cells(figure: Figure) -> tuple[str, ...]:
    against = f"{statistics.median(figure.against):,.1f} {figure.unit}" if figure.against else "out of reach"
    return (
        figure.name,
        f"{statistics.median(figure.measured):,.1f} {figure.unit}",
        figure.baseline,
        against,
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        "" if figure.aim is None else f"{figure.sense} {figure.aim:g}",
        figure.verdict,
    )
