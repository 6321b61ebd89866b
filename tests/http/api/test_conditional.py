"""Preconditions, ranges and content negotiation follow RFC 9110, section by section."""

import pytest

from strata.http.api.conditional import ByteRange, Verdict, decide, prefers

TAG = '"abc"'
LENGTH = 100
ARROW, JSON = "application/vnd.apache.arrow.stream", "application/json"


def decision(method: str = "GET", etag: str | None = TAG, **fields: str | list[str]) -> object:
    """Return the decision on a result of 100 bytes; a list is a header of several lines."""
    pairs = [
        (name.replace("_", "-").encode(), line.encode())
        for name, lines in fields.items()
        for line in ([lines] if isinstance(lines, str) else lines)
    ]
    return decide(method, pairs, etag, LENGTH)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-3", ByteRange(0, 4)),
        ("BYTES=0-3", ByteRange(0, 4)),
        ("bytes=90-", ByteRange(90, 100)),
        ("bytes=90-200", ByteRange(90, 100)),
        ("bytes=-8", ByteRange(92, 100)),
        ("bytes=-200", ByteRange(0, 100)),
        ("bytes= 0-3 ,", ByteRange(0, 4)),
        ("bytes=000000000000000000000005-6", ByteRange(5, 7)),
        ("bytes=100-", Verdict.UNSATISFIABLE),
        ("bytes=-0", Verdict.UNSATISFIABLE),
        ("bytes=" + "9" * 5000 + "-", Verdict.UNSATISFIABLE),
        ("bytes=3-0", Verdict.WHOLE),
        ("bytes=-", Verdict.WHOLE),
        ("bytes=", Verdict.WHOLE),
        ("bytes=a-b", Verdict.WHOLE),
        ("bytes=٣-٤", Verdict.WHOLE),
        ("bytes=0-1,4-5", Verdict.WHOLE),
        ("rows=0-1", Verdict.WHOLE),
        ("0-3", Verdict.WHOLE),
        ("", Verdict.WHOLE),
        (["bytes=0-1", "bytes=4-5"], Verdict.WHOLE),
    ],
)
def test_one_range_of_bytes_is_served_and_others_are_ignored(text: str | list[str], expected: object) -> None:
    """What is no single range of bytes is as if it were absent; one without any byte is 416 (14.1.2, 14.2)."""
    assert expected == decision(range=text)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (TAG, True),
        (f" {TAG} ", True),
        (f"W/{TAG}", False),
        ('"other"', False),
        ("Sun, 29 Nov 2026 00:00:00 GMT", False),
    ],
)
def test_a_range_is_served_only_of_the_result_that_if_range_names(text: str, *, holds: bool) -> None:
    """A weak validator and a date never match (13.1.5); then the whole result is sent."""
    assert (ByteRange(0, 4) if holds else Verdict.WHOLE) == decision(range="bytes=0-3", if_range=text)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("*", True),
        (TAG, True),
        (f'"x", {TAG}', True),
        (['"x"', TAG], True),
        (f"W/{TAG}", False),
        ('"other"', False),
        ("", False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_match_compares_strongly(method: str, text: str | list[str], *, holds: bool) -> None:
    """A result that exists matches ``*``; a weak validator matches none (13.1.1)."""
    assert (Verdict.WHOLE if holds else Verdict.PRECONDITION_FAILED) == decision(method, if_match=text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("*", True),
        (TAG, True),
        (f"W/{TAG}", True),
        (['"x"', f"W/{TAG}"], True),
        ('"other"', False),
        ("", False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match_compares_weakly(method: str, text: str | list[str], *, same: bool) -> None:
    """A client that has the result is told so, for HEAD as for GET (13.1.2)."""
    assert (Verdict.NOT_MODIFIED if same else Verdict.WHOLE) == decision(method, if_none_match=text)


def test_preconditions_come_before_ranges_and_in_order() -> None:
    """If-Match decides before If-None-Match, and both before Range (13.2.2)."""
    assert Verdict.PRECONDITION_FAILED == decision(if_match='"x"', if_none_match=TAG, range="bytes=0-3")
    assert Verdict.NOT_MODIFIED == decision(if_match=TAG, if_none_match=TAG, range="bytes=0-3")
    assert Verdict.NOT_MODIFIED == decision(if_none_match=TAG, range="bytes=100-")
    assert ByteRange(0, 4) == decision(if_match=TAG, if_none_match='"x"', range="bytes=0-3")


def test_only_get_has_ranges() -> None:
    """Range is ignored for every other method (14.2)."""
    assert Verdict.WHOLE == decision("HEAD", range="bytes=0-3")


def test_a_result_without_a_validator_matches_no_tag() -> None:
    """It exists, so it matches ``*``."""
    assert Verdict.PRECONDITION_FAILED == decision(etag=None, if_match=TAG)
    assert Verdict.WHOLE == decision(etag=None, if_match="*")
    assert Verdict.WHOLE == decision(etag=None, range="bytes=0-3", if_range=TAG)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], False),
        ([ARROW], True),
        ([ARROW.upper()], True),
        ([f"{ARROW} ; q=0.3"], True),
        ([f"{ARROW};q=0"], False),
        ([JSON], False),
        (["*/*"], False),
        (["application/*"], False),
        ([f"{ARROW}, */*"], True),
        ([f"*/*, {ARROW}"], True),
        ([f"{ARROW};q=0.5, */*"], False),
        ([f"{ARROW}, {JSON};q=0.5"], True),
        ([f"{ARROW};q=0.5, {JSON}"], False),
        ([f"{ARROW};q=0, {JSON}"], False),
        ([f"{ARROW}, {JSON}"], True),
        ([f"{JSON}, {ARROW}"], False),
        ([f"{JSON};q=0.1", ARROW], True),
        ([JSON, f"{ARROW};q=0.9"], False),
        ([f"{ARROW};q=nonsense"], False),
        (['text/html;x="' + ARROW + '"'], False),
        ([",,;q=,="], False),
    ],
)
def test_accept_asks_for_the_result_itself_by_weight_and_order(lines: list[str], *, expected: bool) -> None:
    """Weights decide, then order; several lines are one list; a wildcard asks for the default (12.5.1)."""
    headers = [(b"accept", line.encode()) for line in lines]
    assert expected == prefers(headers, ARROW, JSON)
