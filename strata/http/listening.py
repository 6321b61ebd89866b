"""Where the server listens: addresses, a Unix socket, TLS on either."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio

BACKLOG = 1024
SOCKET_MODE = 0o660
"""Of a Unix socket: for the proxy, through its group."""


@attrs.frozen
class Bind:
    """One place to listen at: an address, or a Unix socket.

    Attributes:
        host: Address or name.
        port: Port; 0 picks one.
        path: Of a Unix socket; then the other two mean nothing.
    """

    host: str = "127.0.0.1"
    port: int = 0
    path: Path | None = None


class Tls:
    """TLS of the server's listeners; HTTP/1.1 only.

    Args:
        certificate: PEM file with the certificate and its chain.
        key: PEM file with its key; None when it is in the same file.
        client_ca: PEM file of authorities; with it, clients must show a certificate of theirs.

    Raises:
        OSError: If a file cannot be read.
        ssl.SSLError: If it is not what it must be.
    """

    def __init__(self, certificate: Path, key: Path | None = None, client_ca: Path | None = None) -> None:
        self._files = (certificate, key, client_ca)
        self.context = self._load()

    def reload(self) -> None:
        """Read the files again: connections from now on use what they say. On an error nothing changes."""
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        certificate, key, client_ca = self._files
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


async def listen(binds: Sequence[Bind]) -> list[trio.SocketListener]:
    """Bind everything, or nothing.

    Raises:
        OSError: If an address cannot be bound.
    """
    found: list[trio.SocketListener] = []
    try:
        for bind in binds:
            if bind.path is not None:
                found.append(_listen_unix(bind.path))
            else:
                found += await trio.open_tcp_listeners(bind.port, host=bind.host, backlog=BACKLOG)
    except BaseException:
        for listener in found:
            listener.socket.close()
        raise
    return found


def _listen_unix(path: Path) -> trio.SocketListener:
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        path.chmod(SOCKET_MODE)  # before anybody can connect
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(made))


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that is gone.

    Raises:
        OSError: If it is no socket, or somebody answers at it.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(f"another server listens on {path}")


def close(listeners: Sequence[trio.SocketListener]) -> None:
    """Stop to listen; a Unix socket's file goes, too, unless it is another server's by now."""
    for listener in listeners:
        if listener.socket.fileno() == -1:
            continue
        if listener.socket.family == trio.socket.AF_UNIX:
            path = listener.socket.getsockname()
            _unlink_own(path)
        listener.socket.close()


def _unlink_own(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108  # one call, while we still hold the listener
    except OSError:
        return


def url_of(listener: trio.SocketListener, *, tls: bool) -> str:
    """Return what to call a listener."""
    name = listener.socket.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port, *_ = name
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"
