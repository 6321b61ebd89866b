"""Compare rules: whether one covers another, and where two overlap.

Both are decided on the patterns alone. *Covers* has no false positives: the covering rule matches every
request that the covered one matches (checked against requests by :mod:`tests`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from .model import Rule
from .patterns import TABLE_SEGMENTS, ResourcePattern, holds_scope, principal_matches

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
    if not wide:
        return not narrow
    if wide[0] == DEEP:
        return _covers(wide[1:], narrow) or (bool(narrow) and _covers(wide, narrow[1:]))
    if not narrow or narrow[0] == DEEP:
        return False
    return segment_covers(wide[0], narrow[0]) and _covers(wide[1:], narrow[1:])


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
    found: list[Segments] = []
    for meeting in _meetings(one, other):
        if meeting not in found:
            found.append(meeting)
        if len(found) == _MOST_MEETINGS:
            break
    return found


def _meetings(one: Segments, other: Segments) -> Iterator[Segments]:
    if not one and not other:
        yield ()
        return
    if one and one[0] == DEEP:
        yield from _meetings(one[1:], other)
        if other and other[0] != DEEP:
            yield from ((other[0], *rest) for rest in _meetings(one, other[1:]))
        elif other:
            yield from ((DEEP, *rest) for rest in _meetings(one[1:], other[1:]))
            yield from _meetings(one, other[1:])
        return
    if other and other[0] == DEEP:
        yield from _meetings(other, one)
        return
    if one and other:
        for segment in _segment_meetings(one[0], other[0]):
            yield from ((segment, *rest) for rest in _meetings(one[1:], other[1:]))


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
