"""Compute ratios from samples, and print them as a table."""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from typing import Any, Literal

import attrs


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
    """

    name: str
    baseline: str
    unit: str
    measured: Sequence[float]
    against: Sequence[float]
    aim: float | None = None
    sense: Literal["≥", "≤"] = "≥"

    @property
    def ratio(self) -> float | None:
        """The median of the runs' ratios: how fast the machine is changes from one run to the next."""
        if not self.against:
            return None
        runs = zip(self.measured, self.against, strict=True)
        return statistics.median(measured / against for measured, against in runs)

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without an aim or a baseline."""
        if self.aim is None or self.ratio is None:
            return None
        return self.ratio >= self.aim if self.sense == "≥" else self.ratio <= self.aim

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


def report(lines: Sequence[Figure], options: argparse.Namespace) -> int:
    """Print the figures of a script as its options ``json`` and ``runs`` say.

    Returns:
        The exit status: 1 with ``check`` if an aim is missed.
    """
    if options.json:
        found = {"runs": options.runs, "cores": os.cpu_count(), "figures": [line.as_json() for line in lines]}
        print(json.dumps(found, indent=2))
    else:
        print(table(lines))
    return 1 if options.check and any(line.met is False for line in lines) else 0


def _cells(figure: Figure) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[figure.met]
    against = f"{statistics.median(figure.against):,.1f} {figure.unit}" if figure.against else "out of reach"
    return (
        figure.name,
        f"{statistics.median(figure.measured):,.1f} {figure.unit}",
        figure.baseline,
        against,
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        "" if figure.aim is None else f"{figure.sense} {figure.aim:g}",
        met,
    )
