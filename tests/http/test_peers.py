"""Peer keys, as limits use them."""

import pytest

from strata.http.peers import peer_key


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::"),
        ("2001:db8::ffff:1", "2001:db8::"),
        ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ("fe80::1%eth0", "fe80::"),
        (None, "unix"),
    ],
)
def test_a_host_cannot_mint_identities_from_its_network(host: str | None, key: str) -> None:
    """All addresses of an IPv6 /64 share a key, as do both spellings of an IPv4 address."""
    assert key == peer_key(host)
