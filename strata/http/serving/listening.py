"""Bind listeners: addresses, a Unix socket, TLS on either."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import attrs
import trio

BACKLOG = 1024
"""Connections that the kernel queues for accept; further ones are refused or retried by their clients."""
SOCKET_MODE = 0o660
"""Mode of a Unix socket's file: the proxy connects through its group."""
FIRST_DESCRIPTOR = 3
"""First listening socket that a service manager hands over, as in ``sd_listen_fds(3)``."""


@attrs.frozen
class Bind:
    """An address or Unix socket to listen on.

    Attributes:
        host: Address or name; ``::`` is every address, of IPv4, too.
        port: Port; 0: chosen by the system.
        path: Path of a Unix socket; ``host`` and ``port`` are ignored then.
        names: Settings that ``host`` and ``port`` come from.
    """

    host: str = "127.0.0.1"
    port: int = 0
    path: Path | None = None
    names: str = "host, port"


class CannotListenError(Exception):
    """An address or Unix socket cannot be bound; the message names the settings."""

    def __init__(self, bind: Bind, why: object) -> None:
        where, names = f"{bind.host}:{bind.port}", bind.names
        if bind.path is not None:
            where, names = str(bind.path), "unix_socket"
        super().__init__(f"cannot listen on {where} ({names}): {why}")


@attrs.define(eq=False)
class Tls:
    """TLS of the server's listeners; HTTP/1.1 only.

    Attributes:
        context: Context of new connections; a reload replaces it.
        expires: End of the certificate, in seconds since the epoch; None if it is not known.
    """

    context: ssl.SSLContext
    expires: float | None = None


@attrs.frozen(eq=False)
class Listener:
    """A listening socket.

    Attributes:
        inner: Trio's listener.
        file: Device and inode of a Unix socket's file, which distinguish it from another server's at that
            path.
        inherited: Whether the service manager holds the socket, too: connections wait in its queue while the
            server is restarted.
    """

    inner: trio.SocketListener
    file: tuple[int, int] | None = None
    inherited: bool = False


async def listen(binds: Sequence[Bind]) -> list[Listener]:
    """Bind all addresses, or none.

    Raises:
        CannotListenError: If an address cannot be bound.
    """
    found: list[Listener] = []
    try:
        for bind in binds:
            try:
                if (given := inherited(bind)) is not None:
                    found.append(given)
                elif bind.path is not None:
                    found.append(_listen_unix(bind.path))
                else:
                    await _listen_tcp(bind.host, bind.port, found)
            except OSError as error:
                raise CannotListenError(bind, error.strerror or error) from error
            except UnicodeError as error:  # of a name that DNS cannot have
                raise CannotListenError(bind, "it is no host name") from error
    except BaseException:  # raised again: no other code closes it
        for listener in found:
            listener.inner.socket.close()
        raise
    return found


def inherited(bind: Bind) -> Listener | None:
    """Return the listening socket of an address that systemd handed over, or None (``sd_listen_fds(3)``).

    The variables stay: a second address may be among the sockets, and child processes have another pid.

    Raises:
        OSError: If a descriptor that the variables promise is no socket.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "")
    for number in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + (int(count) if count.isdecimal() else 0)):
        with socket.socket(fileno=os.dup(number)) as probe:
            name = probe.getsockname()
            listens = bool(probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            if not listens or not _is(name, bind):
                continue
            probe.setblocking(False)  # noqa: FBT003  # its only parameter
            taken = trio.socket.from_stdlib_socket(socket.socket(fileno=probe.detach()))
        return Listener(trio.SocketListener(taken), inherited=True)
    return None


def _is(name: object, bind: Bind) -> bool:
    if isinstance(name, tuple):
        return bind.path is None and name[:2] == (bind.host, bind.port)
    return bind.path is not None and name == str(bind.path)


async def _listen_tcp(host: str, port: int, found: list[Listener]) -> None:
    """Append the listeners of an address to ``found``; ``::`` is every address of both families.

    Two sockets and not one for both: on that, an IPv4 client has another spelling of its address, and with it
    other limits than on a socket of its own family.
    """
    for name in ("::", "0.0.0.0") if host == "::" else (host,):  # noqa: S104  # the operator's choice
        opened = await trio.open_tcp_listeners(port, host=name, backlog=BACKLOG)
        found += map(Listener, opened)
        port = opened[0].socket.getsockname()[1]  # the one that the system chose, for the other family, too


def _listen_unix(path: Path) -> Listener:
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        path.chmod(SOCKET_MODE)  # before listen(): until then no client can connect
        made.listen(BACKLOG)
    except BaseException:  # raised again: no other code closes it
        made.close()
        raise
    status = path.stat()
    inner = trio.SocketListener(trio.socket.from_stdlib_socket(made))
    return Listener(inner, (status.st_dev, status.st_ino))


def _remove_stale(path: Path) -> None:
    """Remove a Unix socket that no server listens on.

    Raises:
        OSError: If the file is no socket, or a server accepts connections on it.
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


def close(listeners: Sequence[Listener]) -> None:
    """Close listeners, and remove a Unix socket's file unless it is another server's by now."""
    for listener in listeners:
        if listener.inner.socket.fileno() == -1:
            continue
        if listener.file is not None:
            _unlink_own(listener.inner.socket.getsockname(), listener.file)
        listener.inner.socket.close()


def _unlink_own(path: str, file: tuple[int, int]) -> None:
    with suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == file:
            os.unlink(path)  # noqa: PTH108  # one call, while the listener is still open


def url_of(listener: Listener, *, tls: bool) -> str:
    """Return the URL of a listener, for people: ``http://host:port`` or ``unix:path``."""
    name = listener.inner.socket.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port, *_ = name
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"
