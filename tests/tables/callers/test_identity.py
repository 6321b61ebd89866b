"""The identity of a caller as a catalog sees it: different callers are never one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strata.tables.callers.identity import Caller, header_value

SECRET = b"s" * 32


def test_the_form_of_the_operator_is_filled_once() -> None:
    """A principal that looks like a placeholder stays what it is."""
    caller = Caller.of("team-a", "{tenant}", SECRET)
    assert "team-a/{tenant}" == caller.written("{tenant}/{principal}")
    assert "{tenant}" == caller.written("{principal}")
    assert "id:ana@x" == Caller.of("t", "ana@x", SECRET).written("id:{principal}")


def test_a_header_can_carry_any_principal() -> None:
    """What is printable ASCII stays readable; all else is percent-encoded, the percent sign, too."""
    assert "ana@example.com" == header_value("ana@example.com")
    assert "team-a/Zo%C3%AB %251" == header_value("team-a/Zoë %1")


@given(st.tuples(st.text(max_size=20), st.text(max_size=20)))
def test_different_identities_have_different_headers(pair: tuple[str, str]) -> None:
    """No two principals are one to the catalog."""
    pair = tuple(text.encode("utf-8", "ignore").decode() for text in pair)  # type: ignore[assignment]
    assert (pair[0] == pair[1]) == (header_value(pair[0]) == header_value(pair[1]))


def test_the_digest_is_of_tenant_and_principal() -> None:
    """Two tenants may have a principal of one name; without the secret a digest tells nothing."""
    digests = {
        Caller.of(tenant, principal, secret).digest
        for tenant, principal, secret in (
            ("a", "b", SECRET),
            ("a", "c", SECRET),
            ("c", "b", SECRET),
            ("ab", "", SECRET),
            ("a", "b", b"other" * 8),
        )
    }
    assert 5 == len(digests)
    assert Caller.of("a", "b", SECRET) == Caller.of("a", "b", SECRET)
    assert "ana" not in repr(Caller.of("a", "ana", SECRET).nameless)
