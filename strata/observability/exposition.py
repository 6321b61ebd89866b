"""Metric families as text: Prometheus' own format and OpenMetrics, written a sample at a time.

The client library's encoder takes about 8 µs a sample; with a thousand tenants that is half a second in which
nobody else is served. This one takes a tenth, and whoever feeds it may pause anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from strata.tenants.stats.histogram import BUCKETS, Histogram

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_BOUNDS = tuple(f"{bound:.10g}" if bound % 1 else f"{bound:.1f}" for bound in BUCKETS)


@attrs.frozen
class Family:
    """What is measured.

    Attributes:
        name: Its name, with the unit, without ``_total``.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: What it means, in a sentence.
        labels: Names of its labels.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def sample(self) -> str:
        """The name of its samples."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


def negotiate(accept: str) -> bool:
    """Return whether OpenMetrics is asked for."""
    return any(part.split(";")[0].strip() == "application/openmetrics-text" for part in accept.split(","))


class Exposition:
    """A page of samples, each family in one place, whatever the order in which they come.

    Args:
        families: All families, in the order of the page.
        openmetrics: In the format of OpenMetrics.
    """

    def __init__(self, families: Sequence[Family], *, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._lines: dict[str, list[str]] = {}
        for family in families:
            name = family.name if openmetrics else family.sample
            head = [f"# HELP {name} {family.help}\n", f"# TYPE {name} {family.kind}\n"]
            self._lines[family.name] = head

    def add(self, family: Family, labels: str, value: float) -> None:
        """Add a sample; ``labels`` are those of :func:`labelled`."""
        self._lines[family.name].append(f"{family.sample}{{{labels}}} {value}\n")

    def add_histogram(self, family: Family, labels: str, found: Histogram) -> None:
        """Add the samples of a histogram."""
        lines, name, count = self._lines[family.name], family.name, 0
        before = f"{labels}," if labels else ""
        for bound, observed in zip(_BOUNDS, found.counts, strict=False):
            count += observed
            lines.append(f'{name}_bucket{{{before}le="{bound}"}} {count}\n')
        count += found.counts[-1]
        lines.append(f'{name}_bucket{{{before}le="+Inf"}} {count}\n')
        lines.append(f"{name}_sum{{{labels}}} {found.sum}\n")
        lines.append(f"{name}_count{{{labels}}} {count}\n")

    def parts(self) -> Iterator[bytes]:
        """Yield the page, a family a part; those without samples have their description only."""
        for lines in self._lines.values():
            yield "".join(lines).encode()
            lines.clear()
        if self._openmetrics:
            yield b"# EOF\n"

    @property
    def content_type(self) -> str:
        """Its type."""
        return OPENMETRICS if self._openmetrics else TEXT


def labelled(**labels: str) -> str:
    """Return labels as they stand between the braces; values are our own words: nothing to escape."""
    return ",".join(f'{name}="{value}"' for name, value in labels.items())
