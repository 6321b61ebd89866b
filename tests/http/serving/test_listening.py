"""Binding of addresses: which families, which ports, and all or none."""

from __future__ import annotations

import socket

import pytest
import trio

from strata.http.serving.listening import Bind, CannotListenError, close, listen, url_of


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


async def test_the_address_of_all_addresses_takes_both_families() -> None:
    """A client of either family reaches one port on ``::``; each keeps the spelling of its address."""
    if not has_ipv6():  # a machine without the family: refused, not half of it taken
        with pytest.raises(CannotListenError):
            await listen([Bind("::", 0)])
        return
    listeners = await listen([Bind("::", 0)])
    try:
        ports = {listener.inner.socket.getsockname()[1] for listener in listeners}
        assert 1 == len(ports)
        for address, listener in (("::1", listeners[0]), ("127.0.0.1", listeners[1])):
            async with await trio.open_tcp_stream(address, ports.copy().pop()):
                accepted = await listener.inner.accept()
                assert address == accepted.socket.getpeername()[0]
                await accepted.aclose()
        assert ["http://[::]:", "http://0.0.0.0:"] == [
            url_of(listener, tls=False).rstrip("0123456789") for listener in listeners
        ]
    finally:
        close(listeners)


async def test_a_port_that_one_family_cannot_have_is_refused_whole() -> None:
    """No listener stays open."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListenError, match=rf":::{port} \(host, port\)"):
            await listen([Bind("::", port)])
        if has_ipv6():
            with socket.socket(socket.AF_INET6) as free:
                free.bind(("::1", port))


@pytest.mark.parametrize("host", ["a..b", "ü..x", "x" * 300])
async def test_a_name_that_no_host_can_have_is_refused_in_a_sentence(host: str) -> None:
    """It was a traceback at a start."""
    with pytest.raises(CannotListenError, match=r"\(host, port\): it is no host name"):
        await listen([Bind(host, 0)])
