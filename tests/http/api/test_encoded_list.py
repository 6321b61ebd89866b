"""A list that is encoded in pieces is the list's JSON."""

from __future__ import annotations

import msgspec
import pytest

from strata.http.api.pages import PIECE, encoded_list
from strata.http.api.schemas import NameAnswer, NameListAnswer


@pytest.mark.parametrize("count", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_a_list_in_pieces_is_the_list(count: int) -> None:
    """Byte for byte, whatever the length, with one record or none in the last piece."""
    names = [NameAnswer(f'n/{at}"\u00e9', f"strata://artifact/{at}@v=1", 1, "") for at in range(count)]
    whole = NameListAnswer(names, "t")
    assert msgspec.json.encode(whole) == msgspec.json.encode(NameListAnswer(encoded_list(names), "t"))
