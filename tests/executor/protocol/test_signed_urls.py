"""Signed URLs: what verifies, what does not, and that old keys go when nothing needs them."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.executor.protocol import signed_urls
from strata.executor.protocol.signed_urls import KEY_SECONDS, UrlSigner, values_of


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_was_signed_verifies_until_it_expires(clock: Clock) -> None:
    """For its tenant and operation alone."""
    signer = UrlSigner(clock)
    values = values_of(signer.sign("a", "upload", {"build_id": "b1"}, clock.now + 10.5).encode())
    assert signer.verifies("a", "upload", values)
    assert not signer.verifies("b", "upload", values)
    assert not signer.verifies("a", "download", values)
    clock.now += 10
    assert signer.verifies("a", "upload", values)
    clock.now += 1
    assert not signer.verifies("a", "upload", values)


@given(st.data())
def test_no_other_values_verify(data: st.DataObject) -> None:
    """A value that is changed, added or left out is another URL, and so is one that moves to its neighbour."""
    signer = UrlSigner(Clock())
    given_values = data.draw(st.dictionaries(st.text(), st.text(), max_size=4))
    clean = {key: one for key, one in given_values.items() if key not in ("key", "expires_at", "signature")}
    signed = dict(
        parse_qsl(
            signer.sign("a", "upload", clean, Clock.now + 10), keep_blank_values=True, max_num_fields=50
        )
    )
    assert signer.verifies("a", "upload", signed)
    key = data.draw(st.sampled_from(sorted(signed)))
    value = data.draw(st.text().filter(lambda one: one != signed[key]))
    assert not signer.verifies("a", "upload", signed | {key: value})
    assert not signer.verifies("a", "upload", {name: one for name, one in signed.items() if name != key})
    other = data.draw(st.text().filter(lambda one: one not in signed))
    assert not signer.verifies("a", "upload", signed | {other: value})


def test_keys_rotate_and_the_former_one_lives_as_long_as_its_urls(clock: Clock) -> None:
    """A URL of a former key works; a key that no URL needs is forgotten, and its URLs with it."""
    signer = UrlSigner(clock)
    short = values_of(signer.sign("a", "upload", {}, clock.now + 5).encode())
    clock.now += KEY_SECONDS - 1
    long = values_of(signer.sign("a", "upload", {}, clock.now + 2 * KEY_SECONDS).encode())
    assert short["key"] == long["key"]
    clock.now += 1
    fresh = values_of(signer.sign("a", "upload", {}, clock.now + 5).encode())
    assert fresh["key"] != long["key"]
    assert signer.verifies("a", "upload", long)
    assert signer.verifies("a", "upload", fresh)
    clock.now += 2 * KEY_SECONDS
    signer.sign("a", "upload", {}, clock.now + 5)
    assert 1 == len(signer._keys)
    assert not signer.verifies("a", "upload", long)


def test_two_processes_do_not_take_each_others_urls(clock: Clock) -> None:
    """Each has keys of its own."""
    values = values_of(UrlSigner(clock).sign("a", "upload", {}, clock.now + 5).encode())
    other = UrlSigner(clock)
    other.sign("a", "upload", {}, clock.now + 5)
    assert not other.verifies("a", "upload", values)
    assert not other.verifies("a", "upload", values | {"key": other._newest})


def test_signatures_are_compared_in_constant_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verdict is the comparison's of the standard library, for unknown keys, too."""
    signer, compared = UrlSigner(clock), []
    values = values_of(signer.sign("a", "upload", {}, clock.now + 5).encode())
    monkeypatch.setattr(signed_urls.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    assert signer.verifies("a", "upload", values)
    assert not signer.verifies("a", "upload", values | {"key": "none"})
    assert not signer.verifies("a", "upload", {})
    assert 3 == len(compared)


def test_no_repr_shows_a_key(clock: Clock) -> None:
    """Keys are in no message and no traceback of an object."""
    signer = UrlSigner(clock)
    signer.sign("a", "upload", {}, clock.now + 5)
    assert repr(signer._keys[signer._newest].data)[2:-1] not in f"{signer!r}{signer._keys!r}"


@pytest.mark.parametrize(
    "query", [b"a=1&a=2", b"a", b"a=%ff", "ä=1".encode(), b"a=" + b"1" * 3000, b"&".join([b"a=1"] * 20)]
)
def test_a_malformed_query_has_no_values(query: bytes) -> None:
    """A value twice, no value, no ASCII, too long, too many."""
    assert values_of(query) is None
