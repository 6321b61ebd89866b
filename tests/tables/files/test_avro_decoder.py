"""The Avro decoder reads what pyiceberg's reads, and never beyond its bytes."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.avro.decoder import StreamingBinaryDecoder
from pyiceberg.avro.encoder import BinaryEncoder

from strata.tables.files.avro_decoder import BoundedDecoder

INTS = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    INTS.map(lambda value: ("int", value)),
    st.booleans().map(lambda value: ("boolean", value)),
    st.binary(max_size=300).map(lambda value: ("bytes", value)),
    st.text(max_size=50).map(lambda value: ("utf8", value)),
    st.floats(allow_nan=False).map(lambda value: ("double", value)),
    st.floats(allow_nan=False, width=32).map(lambda value: ("float", value)),
)


def encoded(values: list) -> bytes:
    out = io.BytesIO()
    encoder = BinaryEncoder(out)
    for kind, value in values:
        getattr(encoder, f"write_{kind}")(value)
    return out.getvalue()


def decoded(decoder, kinds: list[str]) -> list:
    return [getattr(decoder, f"read_{kind}")() for kind in kinds]


@given(st.lists(VALUES, max_size=20))
def test_values_are_those_that_were_written(values: list) -> None:
    """Each value comes back exactly, doubles with all of their bits, and skipping passes over the same bytes."""
    data = encoded(values)
    kinds = [kind for kind, _ in values]
    decoder = BoundedDecoder(data)
    assert [value for _, value in values] == decoded(decoder, kinds)
    assert (len(data), 0) == (decoder.tell(), decoder.left)
    assert decoded(StreamingBinaryDecoder(data), kinds) == decoded(BoundedDecoder(data), kinds)
    skipping = BoundedDecoder(data)
    for kind in kinds:
        getattr(skipping, f"skip_{kind}")()
    assert 0 == skipping.left


@given(st.lists(INTS, max_size=40), st.lists(st.tuples(INTS, st.binary(max_size=9)), max_size=20))
def test_runs_of_integers_and_of_pairs_are_read_in_one_go(ints: list[int], pairs: list) -> None:
    """The two methods for a manifest's column statistics give the values one by one."""
    written = [("int", value) for value in ints]
    for key, value in pairs:
        written += [("int", key), ("bytes", value)]
    decoder = BoundedDecoder(encoded(written))
    found: dict[int, bytes] = {}
    assert tuple(ints) == decoder.read_ints(len(ints))
    decoder.read_int_bytes_dict(len(pairs), found)
    assert (dict(pairs), 0) == (found, decoder.left)


@given(VALUES, st.data())
def test_a_value_that_breaks_off_is_an_error(value, data: st.DataObject) -> None:
    """Every proper beginning of a value raises EOFError, and the position stays within the bytes."""
    whole = encoded([value])
    beginning = whole[: data.draw(st.integers(0, len(whole) - 1))]
    decoder = BoundedDecoder(beginning)
    with pytest.raises(EOFError):
        decoded(decoder, [value[0]])
    assert decoder.left >= 0


@pytest.mark.parametrize("length", [2, 1 << 31, (1 << 63) - 1])
@pytest.mark.parametrize("method", ["read_bytes", "read_utf8", "skip_bytes", "skip_utf8"])
def test_a_length_beyond_the_end_is_an_error(length: int, method: str) -> None:
    """A length is checked before it is followed."""
    with pytest.raises(EOFError):
        getattr(BoundedDecoder(encoded([("int", length)]) + b"x"), method)()


@pytest.mark.parametrize("call", ["read", "skip", "read_ints"])
def test_a_length_below_zero_is_an_error(call: str) -> None:
    """No length moves backwards."""
    with pytest.raises(ValueError, match="-3"):
        getattr(BoundedDecoder(b"four"), call)(-3)


def test_a_number_of_values_beyond_the_end_is_an_error_at_once() -> None:
    """A run of 2^62 integers is refused before the first is read."""
    with pytest.raises(EOFError):
        BoundedDecoder(bytes(100)).read_ints(1 << 62)
    with pytest.raises(EOFError):
        BoundedDecoder(bytes(100)).read_int_bytes_dict(1 << 62, {})


@pytest.mark.parametrize("data", [b"\x80" * 12 + b"\x01", b"\xff" * 9 + b"\x7f", b"\xff" * 40])
def test_an_integer_has_64_bits(data: bytes) -> None:
    """A longer encoding is an error; it is not cut."""
    with pytest.raises(ValueError, match="64 bits"):
        BoundedDecoder(data).read_int()
    assert -(2**63) == BoundedDecoder(b"\xff" * 9 + b"\x01").read_int()


def test_a_double_keeps_its_bits() -> None:
    """A third differs from its nearest 32-bit number."""
    assert 1 / 3 == BoundedDecoder(struct.pack("<d", 1 / 3)).read_double()
