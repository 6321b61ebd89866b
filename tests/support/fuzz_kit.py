"""What every fuzz target shares: its number of cases, and inputs that are nearly valid.

A target takes anything and promises a value or a declared refusal, never another exception. Pure noise seldom
gets past the first check, so most inputs are valid ones with one thing wrong.
"""

from __future__ import annotations

import os

from hypothesis import Phase, settings
from hypothesis import strategies as st

CASES = {"ci": 1_000, "nightly": 100_000, "thorough": 100_000}
"""Cases a target, by Hypothesis profile; ``FUZZ_CASES`` overrides both."""

SECRET = "s3cr3t-value-nobody-may-repeat"
"""Stands for a secret; no message may contain it."""

_profile = os.environ.get("HYPOTHESIS_PROFILE", "ci")

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_CASES") or CASES[_profile]),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    database=None,
)

ODD_TEXT = st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "\x7f",
        "\x85",
        "\n",
        "\r\nX-Injected: 1",
        "..",
        "../../etc/passwd",
        "%",
        "%2F",
        "%2A",
        "%25",
        "*",
        "**",
        "'; DROP TABLE artifacts; --",
        "{}",
        "é",  # composed
        "e\u0301",  # the same letter, not in NFC
        "\u212a",  # KELVIN SIGN, which lower-cases to k
        "\u017f",  # LONG S, which upper-cases to S
        "\u0661",  # a digit outside of ASCII
        "\u200b",
        "\u202e",
        "\ufeff",
        "\U0001f600",
        "\ud800",  # a lone surrogate
        "a" * 300,
        "9" * 400,
        "1e999",
        "nan",
        "-0",
    ]
)

texts = st.one_of(ODD_TEXT, st.text(max_size=20), st.text(st.characters(max_codepoint=127), max_size=20))
"""Text of every kind, lone surrogates included."""

integers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**40]),
    st.integers(),
)

scalars = st.one_of(st.none(), st.booleans(), integers, st.floats(), texts)

documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
"""What a JSON or TOML parser may return, and numbers that it may not."""


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes], most: int = 3) -> bytes:
    """Bytes with a few changes: replaced, inserted, removed, repeated, cut off."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 5)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case 2:
                del data[at : at + draw(st.integers(1, 8))]
            case 3:
                data[at : at + 4] = draw(
                    st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"])
                )
            case 4:
                data[at:at] = data[at : at + 16]
            case _:
                del data[at:]
    return bytes(data)
