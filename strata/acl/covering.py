"""Compare rules: whether one covers another, and where two overlap.

Both are decided on the patterns alone. *Covers* has no false positives: the covering rule matches every
request that the covered one matches (checked against requests by :mod:`tests`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeAlias

from .model import Rule
from .patterns import TABLE_SEGMENTS, ResourcePattern, holds_scope, matches_in_order, principal_matches

Segment: TypeAlias = tuple[str, ...]
Segments: TypeAlias = tuple[Segment, ...]

STAR: Final[Segment] = ("", "")
DEEP: Final[Segment] = ()

_HOLE: Final = "\x00"  # stands for any text: no pattern contains this character
_MOST_MEETINGS: Final = 64


def covers(one: Rule, other: Rule) -> bool:
    """Test whether ``one`` matches every request that ``other`` matches, and grants no fewer cells of it."""
    return (
        principal_covers(one.principal, other.principal)
        and one.tenant in (None, other.tenant)
        and one.action in (None, other.action)
        and (
            one.scope is None
            or (other.scope is not None and holds_scope(frozenset({other.scope}), one.scope))
        )
        and pattern_covers(one.pattern, other.pattern)
        and _opens_as_much(one, other)
    )


def principal_covers(one: str, other: str) -> bool:
    """Test whether the principal ``one`` of a rule matches every caller that ``other`` matches."""
    return one in ("*", other) or ("*" not in other and principal_matches(one, other))


def pattern_covers(one: ResourcePattern, other: ResourcePattern) -> bool:
    """Test whether every resource that ``other`` matches is matched by ``one``."""
    return all(
        any(_covers(wide, narrow) for wide in (one.segments, *spelled_out(one)))
        for narrow in spelled_out(other)
    )


def spelled_out(pattern: ResourcePattern) -> Iterator[Segments]:
    """Yield the pattern with each ``**`` expanded, for tables only: they have exactly four segments."""
    segments = pattern.segments
    deep = segments.count(DEEP)
    if segments[0] != ("tables",) or not deep:
        yield segments
        return
    room = TABLE_SEGMENTS - (len(segments) - deep)
    for lengths in _shared_out(room, deep):
        left = iter(lengths)
        found: list[Segment] = []
        for segment in segments:
            found += [STAR] * next(left) if segment == DEEP else [segment]
        yield tuple(found)


def _shared_out(count: int, among: int) -> Iterator[tuple[int, ...]]:
    if among == 1:
        yield (count,)
        return
    for first in range(count + 1):
        for rest in _shared_out(count - first, among - 1):
            yield first, *rest


def _covers(wide: Segments, narrow: Segments) -> bool:
    return matches_in_order(wide, narrow, lambda one, other: other != DEEP and segment_covers(one, other))


def segment_covers(wide: Segment, narrow: Segment) -> bool:
    """Test whether ``wide`` matches every text that ``narrow`` matches; only a star covers a star."""
    text = _HOLE.join(narrow)
    if len(wide) == 1:
        return wide[0] == text
    first, last = wide[0], wide[-1]
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for literal in wide[1:-1]:
        found = text.find(literal, at, end)
        if found < 0:
            return False
        at = found + len(literal)
    # A star also matches the empty text; segments are never empty.
    return True


def _opens_as_much(one: Rule, other: Rule) -> bool:
    if not one.restricted:
        return True
    if not other.restricted:
        return False
    columns = one.columns is None or (other.columns is not None and set(other.columns) <= set(one.columns))
    return columns and {repr(c) for c in one.conditions} <= {repr(c) for c in other.conditions}


def meetings(one: Segments, other: Segments) -> list[Segments]:
    """Return patterns that both patterns cover, at most 64; they cover nearly all of the intersection.

    Missing are further overlaps of two texts inside a segment, and long runs of ``**``.
    """
    # From the end: the meetings of what is left after segment `at` of one and `beside` of the other, once for
    # each pair, whatever `**` there are. Two rows of that table are enough.
    below: list[list[Segments]] = []
    for at in reversed(range(len(one) + 1)):
        row: list[list[Segments]] = [[] for _ in range(len(other) + 2)]
        for beside in reversed(range(len(other) + 1)):
            found = _meetings(one[at : at + 1], other[beside : beside + 1], row, below, beside)
            row[beside] = list(islice(dict.fromkeys(islice(found, _MOST_MEETINGS**2)), _MOST_MEETINGS))
        below = row
    return below[0]


def _meetings(
    first: Segments, second: Segments, row: list[list[Segments]], below: list[list[Segments]], beside: int
) -> Iterator[Segments]:
    """Yield the meetings of two patterns.

    Args:
        first: The first segment of a pattern; empty at its end.
        second: The first segment of the other, which is at ``beside``; empty at its end.
        row: The meetings of the first pattern with the rests of the other.
        below: The same for the first pattern without its first segment.
        beside: The place in the other pattern.
    """
    if not first and not second:
        yield ()
    elif first == (DEEP,):
        yield from below[beside]
        if second == (DEEP,):
            yield from ((DEEP, *rest) for rest in below[beside + 1])
            yield from row[beside + 1]
        elif second:
            yield from ((*second, *rest) for rest in row[beside + 1])
    elif second == (DEEP,):
        yield from row[beside + 1]
        if first:
            yield from ((*first, *rest) for rest in below[beside])
    elif first and second and below[beside + 1]:
        for segment in _segment_meetings(first[0], second[0]):
            yield from ((segment, *rest) for rest in below[beside + 1])


def _segment_meetings(one: Segment, other: Segment) -> Iterator[Segment]:
    if segment_covers(one, other):
        yield other
        return
    if segment_covers(other, one):
        yield one
        return
    if len(one) == 1 or len(other) == 1:
        return
    first, last = max(one[0], other[0], key=len), max(one[-1], other[-1], key=len)
    if not (first.startswith(one[0]) and first.startswith(other[0])):
        return
    if not (last.endswith(one[-1]) and last.endswith(other[-1])):
        return
    middle = (*one[1:-1], *other[1:-1])
    yield (first, *middle, last)
    for tighter in ((first, *one[1:-1], last), (first, *other[1:-1], last), *_overlaps(first, last)):
        if segment_covers(one, tighter) and segment_covers(other, tighter):
            yield tighter


def _overlaps(first: str, last: str) -> Iterator[Segment]:
    """Yield texts in which an end of ``first`` is the beginning of ``last``."""
    for shared in range(1, min(len(first), len(last)) + 1):
        if first.endswith(last[:shared]):
            yield (first + last[shared:],)
