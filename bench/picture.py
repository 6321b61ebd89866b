"""Draw latencies (the share of requests that were answered within each number of milliseconds) and ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import attrs

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 48, 56
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df")
FONT = 'font-family="system-ui, sans-serif" font-size="12"'
SHARES = (0.5, 0.9, 0.99, 0.999)
STEPS = (1, 2, 5)
NAMES, ROW = 280, 26
"""Width of the names beside bars, and height of a bar's row."""


@attrs.frozen
class Curve:
    """One curve.

    Attributes:
        label: Name in the legend.
        seconds: Latencies, in any order.
    """

    label: str
    seconds: Sequence[float]


@attrs.frozen
class Bar:
    """One bar.

    Attributes:
        label: Its name.
        ratio: Its length: above 0.
        aim: A mark on it; None: there is none.
    """

    label: str
    ratio: float
    aim: float | None = None


def ratios(title: str, bars: Sequence[Bar]) -> str:
    """Return an SVG image: a bar from 1 to each ratio on a logarithmic axis, with a mark at its aim."""
    every = [1.0, *(bar.ratio for bar in bars), *(bar.aim for bar in bars if bar.aim)]
    low, high = min(every) * 0.8, max(every) * 1.25
    height = TOP + ROW * len(bars) + BOTTOM

    def place(ratio: float) -> float:
        return NAMES + (WIDTH - RIGHT - NAMES) * math.log(ratio / low) / math.log(high / low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{RIGHT}" y="22" font-size="15" fill="#1f2328">{escape(title)}</text>',
    ]
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for value in (step * 10.0**exponent for step in STEPS):
            if low <= value <= high:
                x = f"{place(value):.1f}"
                below = f'x="{x}" y="{height - BOTTOM + 18}" text-anchor="middle"'
                parts += [
                    f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{height - BOTTOM}" stroke="#d0d7de"/>',
                    f'<text {below} fill="#57606a">{value:g}</text>',
                ]
    for number, bar in enumerate(bars):
        y = TOP + ROW * number
        begin, end = sorted((place(1.0), place(bar.ratio)))
        text = f"{bar.label}: {bar.ratio:.2f}"
        size = f'width="{max(1.0, end - begin):.1f}" height="16"'
        parts += [
            f'<text x="{NAMES - 8}" y="{y + 17}" text-anchor="end" fill="#1f2328">{escape(text)}</text>',
            f'<rect x="{begin:.1f}" y="{y + 5}" {size} fill="{COLOURS[0]}"/>',
        ]
        if bar.aim:
            x = f"{place(bar.aim):.1f}"
            parts.append(
                f'<line x1="{x}" y1="{y + 1}" x2="{x}" y2="{y + 25}" stroke="{COLOURS[1]}" stroke-width="3"/>'
            )
    about = "ratio to the baseline; a red mark is the aim"
    parts.append(f'<text x="{NAMES}" y="{height - 12}" fill="#57606a">{about}</text>')
    return "\n".join([*parts, "</svg>", ""])


def latencies(title: str, curves: Sequence[Curve]) -> str:
    """Return an SVG image: latency on a logarithmic axis, and the share of requests above it on another.

    The vertical axis counts nines, to show tails: 90 % to 99 % is as far as 99 % to 99.9 %.
    """
    milliseconds = [sorted(second * 1000 for second in curve.seconds) for curve in curves]
    low, high = _bounds(milliseconds)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="15" fill="#1f2328">{escape(title)}</text>',
        *_grid(low, high),
    ]
    for number, (curve, values) in enumerate(zip(curves, milliseconds, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(
            f"{_x(value, low, high):.1f},{_y(index / len(values)):.1f}"
            for index, value in enumerate(values)
            if index / len(values) <= SHARES[-1]
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = LEFT + 12, TOP + 18 + 18 * number
        parts += [
            f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>',
            f'<text x="{x + 16}" y="{y}" fill="#1f2328">{escape(curve.label)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _bounds(milliseconds: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the decades-and-halves around all values."""
    every = [value for values in milliseconds for value in values]
    return min(every) * 0.9, max(every) * 1.1


def _grid(low: float, high: float) -> list[str]:
    parts = []
    for share in (0.0, *SHARES):
        y = _y(share)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#d0d7de"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#57606a">{share * 100:g} %</text>'
        )
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for step in STEPS:
            value = step * 10.0**exponent
            if low <= value <= high:
                x = _x(value, low, high)
                parts.append(
                    f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#eaeef2"/>'
                )
                place = f'x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}"'
                parts.append(f'<text {place} text-anchor="middle" fill="#57606a">{value:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 16}" text-anchor="middle" fill="#57606a">'
        "milliseconds within which that share of requests was answered</text>"
    )
    return parts


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * math.log(value / low) / math.log(high / low)


def _y(share: float) -> float:
    """Return the vertical position of a share, by its nines."""
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log10(1 - share) / math.log10(1 - SHARES[-1])
