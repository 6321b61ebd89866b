"""A listening socket that a service manager holds: a restart refuses no connection."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from strata.http.serving.listening import Bind, close, inherited, listen


def handed_over(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    """Make the socket descriptor 3 of this process, as systemd does, until the end of the test."""
    monkeypatch.setattr("strata.http.serving.listening.FIRST_DESCRIPTOR", listener.fileno())
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))


async def test_connections_wait_for_the_next_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that arrives while no server listens is accepted by the one that is started then."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        handed_over(monkeypatch, held)
        bind = Bind(port=held.getsockname()[1])
        close(await listen([bind]))
        with socket.create_connection(held.getsockname(), timeout=10) as client:
            client.sendall(b"hello")
            [again] = await listen([bind])
            stream = await again.inner.accept()
            assert b"hello" == await stream.receive_some(10)
            await stream.aclose()
            close([again])


@pytest.mark.parametrize("pid", ["", "1"])
async def test_variables_for_another_process_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, pid: str
) -> None:
    """A child inherits them from a process that was handed the socket."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        handed_over(monkeypatch, held)
        monkeypatch.setenv("LISTEN_PID", pid)
        assert inherited(Bind(port=held.getsockname()[1])) is None


async def test_a_socket_of_another_address_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server binds its own address then; words and negative numbers are no number of sockets."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        handed_over(monkeypatch, held)
        assert inherited(Bind(host="127.0.0.2", port=held.getsockname()[1])) is None
        assert inherited(Bind(path=Path("/run/strata.sock"))) is None
        for count in ("", "-1", "many"):
            monkeypatch.setenv("LISTEN_FDS", count)
            assert inherited(Bind(port=held.getsockname()[1])) is None


async def test_a_unix_socket_is_handed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its file stays when the server stops: it is the manager's."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))
        held.listen()
        handed_over(monkeypatch, held)
        [listener] = await listen([Bind(path=path)])
        close([listener])
        assert path.exists()


PROGRAM = """
import os, sys, trio
from functools import partial
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

async def main():
    with trio.open_signal_receiver(15) as signals:
        await serve(app, [Bind(port=int(sys.argv[1]))], stop=partial(anext, signals), grace=5)

os.dup2(int(sys.argv[2]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
trio.run(main)
"""


@pytest.mark.slow
def test_restarts_of_a_process_refuse_no_request() -> None:
    """Clients that connect for each request and repeat nothing are answered through three restarts."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as held:
        port = held.getsockname()[1]
        stop, answers = threading.Event(), []

        def ask() -> None:
            while True:
                with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answer = b""
                    while part := client.recv(4096):
                        answer += part
                    answers.append(answer)
                if stop.is_set():
                    return

        def start() -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", PROGRAM, str(port), str(held.fileno())]
            return subprocess.Popen(command, env=os.environ | {"LISTEN_FDS": "1"}, pass_fds=[held.fileno()])

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        for _ in range(3):
            server, before = start(), len(answers)
            while len(answers) < before + 50:
                assert server.poll() is None
                threading.Event().wait(0.01)
            server.terminate()
            assert 0 == server.wait(30)
        last = start()
        clients.append(threading.Thread(target=ask))  # is answered by the last server
        stop.set()
        clients[-1].start()
        for client in clients:
            client.join(60)
            assert not client.is_alive()
        last.terminate()
        assert 0 == last.wait(30)
        assert {True} == {answer.endswith(b"ok") for answer in answers}
