"""A real nginx on the shipped configuration; a recorder plays Strata and the authentication service."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest
from programs import need

Change = Callable[[Path], object]
"""Changes the copied files in the given directory."""

DEPLOY = Path(__file__).parents[2] / "deploy"


@attrs.frozen
class Request:
    """A request as received: names in lower case, order and repetitions kept."""

    line: str
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found == name]

    def names(self) -> list[str]:
        return [name for name, _ in self.headers]


class Recorder:
    """An HTTP server that records its requests and answers 200 with the given headers."""

    def __init__(
        self,
        answer_headers: tuple[str, ...] = (),
        more: Callable[[Request], tuple[str, ...]] = lambda _request: (),
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.answer_headers = answer_headers
        self.more = more
        self.status = "200 OK"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        buffered = b""
        with connection:
            while True:
                while b"\r\n\r\n" not in buffered:
                    try:
                        got = connection.recv(65536)
                    except OSError:
                        return
                    if not got:
                        return
                    buffered += got
                head, _, buffered = buffered.partition(b"\r\n\r\n")
                line, *fields = head.decode("latin-1").split("\r\n")
                pairs = [field.partition(":") for field in fields]
                request = Request(line, tuple((name.lower(), value.strip()) for name, _, value in pairs))
                for length in request.all("content-length"):
                    while len(buffered) < int(length):
                        buffered += connection.recv(65536)
                    buffered = buffered[int(length) :]
                self.requests.append(request)
                extra = "".join(f"{header}\r\n" for header in (*self.answer_headers, *self.more(request)))
                connection.sendall(f"HTTP/1.1 {self.status}\r\n{extra}Content-Length: 2\r\n\r\nok".encode())

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    found = Recorder()
    yield found
    found.close()


@pytest.fixture
def auth() -> Iterator[Recorder]:
    found = Recorder(
        (
            "X-Auth-Request-Email: ada@example.com",
            "X-Auth-Request-Tenant: team-a",
            "X-Auth-Request-Scopes: notebook:read",
        )
    )
    yield found
    found.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@attrs.frozen
class Proxy:
    """A running nginx; ``ports`` maps each shipped port to the port nginx listens on."""

    ports: dict[int, int]

    def send(self, port: int, raw: bytes) -> bytes:
        """Send raw bytes to a shipped port and return the answer, read to its length."""
        with socket.create_connection(("127.0.0.1", self.ports[port]), timeout=20) as connection:
            connection.sendall(raw)
            answer = b""
            while not self._whole(answer):
                part = connection.recv(65536)
                if not part:
                    break
                answer += part
        return answer

    @staticmethod
    def _whole(answer: bytes) -> bool:
        head, end, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return bool(end) and length is not None and len(body) >= int(length[1])


def install(
    config: str, directory: Path, upstreams: dict[int, int], change: Change | None = None
) -> tuple[Path, dict[int, int]]:
    """Copy the shipped files with other ports and writable directories, then apply ``change``."""
    tree = directory / "etc"
    shutil.copytree(DEPLOY, tree)
    if change is not None:
        change(tree)
    if config == "nginx.conf":
        (tree / "proxy_token.conf").write_text(
            'proxy_set_header X-Strata-Proxy-Token "the-token-of-this-test";\n'
        )
    listens: dict[int, int] = {}
    for path in tree.rglob("*.conf"):
        text = path.read_text()
        for shipped, real in upstreams.items():
            text = text.replace(f"127.0.0.1:{shipped};", f"127.0.0.1:{real};")
        if path == tree / config:
            listens = {int(port): free_port() for port in re.findall(r"listen (\d+);", text)}
            for shipped, real in listens.items():
                text = text.replace(f"listen {shipped};", f"listen 127.0.0.1:{real};")
            paths = "".join(
                f"{kind}_temp_path {directory}/{kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            text = text.replace("http {", f"http {{\naccess_log off;\n{paths}", 1)
        path.write_text(text)
    return tree / config, listens


def command(config: Path, directory: Path) -> list[str]:
    user = "user root; " if os.geteuid() == 0 else ""
    settings = f"{user}pid {directory}/nginx.pid; error_log {directory}/error.log info;"
    return [need("nginx"), "-c", str(config), "-g", settings]


@contextmanager
def running(
    config: str,
    directory: Path,
    upstreams: dict[int, int],
    change: Change | None = None,
    listening: int | None = None,
) -> Iterator[Proxy]:
    """Run nginx until the block ends; ``listening`` is a port of the changed configuration."""
    path, listens = install(config, directory, upstreams, change)
    arguments = command(path, directory)
    arguments[-1] += " daemon off;"
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    try:
        for port in (*listens.values(), *([listening] if listening else [])):
            wait_listening(port, process)
        yield Proxy(listens)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def wait_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return once ``port`` accepts connections; nginx binds before it forks, so a refusal is only early."""
    for _ in range(20_000):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            threading.Event().wait(0.005)
        else:
            return
    pytest.fail(f"nginx did not start: {process.stderr.read().decode() if process.stderr else ''}")


Start = Callable[..., Proxy]


@pytest.fixture
def nginx_of(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts nginx on the shipped files after a change to them."""
    with ExitStack() as stack:

        def start(
            config: str, upstreams: dict[int, int], *, change: Change, listening: int | None = None
        ) -> Proxy:
            return stack.enter_context(running(config, tmp_path, upstreams, change, listening))

        yield start


@pytest.fixture(scope="module")
def nginx_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Return the same function for the tests of a module that share an nginx."""
    with ExitStack() as stack:

        def start(config: str, upstreams: dict[int, int], *, change: Change, listening: int) -> Proxy:
            place = tmp_path_factory.mktemp("nginx")
            return stack.enter_context(running(config, place, upstreams, change, listening))

        yield start


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts nginx on a shipped configuration, in front of the given ports."""
    with ExitStack() as stack:
        yield lambda config, upstreams: stack.enter_context(running(config, tmp_path, upstreams))


@pytest.fixture
def nginx_test(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Return a function that runs ``nginx -t`` on a shipped configuration."""

    def test(config: str) -> subprocess.CompletedProcess[str]:
        path, _ = install(config, tmp_path, {})
        arguments = [*command(path, tmp_path), "-t"]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)

    return test


@pytest.fixture(name="free_port", scope="session")
def free_port_fixture() -> Callable[[], int]:
    """Return a function that finds a free port."""
    return free_port
