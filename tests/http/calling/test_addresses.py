"""A URL leads only where the rules permit, by the address that was checked."""

from __future__ import annotations

import pytest
import trio

from strata.http.calling.addresses import AddressRules, UrlError, addresses_of, parse_url

NEVER = [
    "http://169.254.169.254/latest",
    "http://[fe80::1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://224.0.0.1/",
    "http://2852039166/",  # 169.254.169.254 as a number
    "http://0xa9fea9fe/",
    "http://[fd00:ec2::254]/latest",
    "http://[fd00:0ec2:0:0:0:0:0:254]/",
    "http://100.100.100.200/latest",
    "http://[::ffff:100.100.100.200]/",
]
PRIVATE = [
    "http://127.0.0.1/",
    "http://localhost/",
    "http://[::1]/",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://172.16.0.1/",
    "http://100.64.0.1/",
    "http://[fd00::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://2130706433/",
    "http://127.1/",
]
MALFORMED = [
    "ftp://host/",
    "file:///etc/passwd",
    "http:///path",
    "http://user:secret@host/",
    "http://host/#part",
    "http://host/a b",
    "http://host\\@other/",
    "http://hö.example/",
    "http://host:99999/",
    "http://host/\r\nX: y",
    "gopher://host",
    "http://[::1",
]


@pytest.mark.parametrize("url", NEVER)
async def test_a_link_local_or_meaningless_address_is_never_reached(url: str) -> None:
    """However it is spelled, and whatever else is permitted."""
    with pytest.raises(UrlError):
        await addresses_of(
            parse_url(url), AddressRules(private=True, hosts=("169.254.169.254", "100.100.100.200"))
        )


@pytest.mark.parametrize("url", PRIVATE)
async def test_a_private_address_needs_permission(url: str) -> None:
    """It is refused, unless private addresses or this host are permitted."""
    target = parse_url(url)
    with pytest.raises(UrlError, match="not public"):
        await addresses_of(target, AddressRules())
    assert await addresses_of(target, AddressRules(private=True))
    assert await addresses_of(target, AddressRules(hosts=(target.host,)))


@pytest.mark.parametrize("url", MALFORMED)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    """Other schemes, users, fragments and odd characters have no meaning here."""
    with pytest.raises(UrlError):
        parse_url(url)


async def test_one_forbidden_address_of_a_name_forbids_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to a public and to a private address is refused."""

    async def resolved(*_args: object, **_more: object) -> list:
        return [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("10.0.0.7", 80))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", resolved)
    with pytest.raises(UrlError, match=r"10\.0\.0\.7"):
        await addresses_of(parse_url("http://example.org/"), AddressRules())
    assert ["93.184.216.34", "10.0.0.7"] == await addresses_of(
        parse_url("http://example.org/"), AddressRules(hosts=(".org",))
    )


def test_the_target_is_what_the_url_says() -> None:
    """Host, port, path and query are kept, and the Host header names a port that is not the usual one."""
    found = parse_url("https://Example.org:8443/a?b=c")
    assert ("https", "example.org", 8443, "/a?b=c", "example.org:8443") == (
        found.scheme,
        found.host,
        found.port,
        found.path,
        found.authority,
    )
    assert "[::1]" == parse_url("http://[::1]/").authority
