"""Server processes: Strata on fresh directories, and the bare baselines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import wire

TOKEN = "bench-only-proxy-token"
READY_SECONDS = 180.0
STOP_SECONDS = 30.0

IDENTITY = {
    "X-Strata-Proxy-Token": TOKEN,
    "X-Strata-Principal": "bench",
    "X-Tenant-ID": "bench",
    "X-Strata-Scopes": "admin:* notebook:read notebook:write notebook:execute",
}

CONFIG = """\
[tool.strata]
deployment_mode = "service"
auth_mode = "trusted_proxy"
proxy_token = "{token}"
multi_tenant_enabled = true
require_tenant_header = true
port = {port}
cache_dir = "{base}/cache"
artifact_dir = "{base}/artifacts"
max_response_bytes = 17179869184
max_tasks_per_scan = 10000
memory_budget_bytes = {budget}
rate_limit_enabled = {limited}
{settings}
[tool.strata.warehouses]
bench = "{warehouse}"
"""


@attrs.frozen
class Target:
    """A server to measure.

    Attributes:
        url: Its base URL.
        headers: The identity to send.
        pid: Its process; None: not known.
    """

    url: str
    headers: Mapping[str, str]
    pid: int | None = None

    def memory(self) -> int:
        """Return the most bytes of memory that its process has had resident so far, without its readers'."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024

    def connect(self) -> wire.Connection:
        """Open a connection to it."""
        return wire.Connection(self.url, self.headers)


@contextmanager
def strata(
    base: Path,
    warehouse: Path,
    *,
    limited: bool = False,
    budget: int = 0,
    settings: str = "",
    more: str = "",
    port: int = 0,
    program: Sequence[str] = ("-m", "strata"),
) -> Iterator[Target]:
    """Run ``strata serve`` in a new process, on empty directories under ``base``.

    Args:
        base: Directory of the server.
        warehouse: The warehouse that it serves.
        limited: Whether rate limits have their defaults, or none.
        budget: ``memory_budget_bytes``; 0: its default.
        settings: Further lines of its settings.
        more: Further tables of its configuration.
        port: Its port; 0: a free one.
        program: What Python runs as ``strata``.
    """
    for name in ("cache", "artifacts"):
        (base / name).mkdir(parents=True)
    port = port or free_port()
    places = {"base": base, "warehouse": warehouse}
    config = base / "strata.toml"
    given = {"limited": str(limited).lower(), "budget": budget, "settings": settings}
    config.write_text(CONFIG.format(**places, token=TOKEN, port=port, **given) + more)
    command = [sys.executable, *program, "serve", "--config", str(config)]
    target = Target(f"http://127.0.0.1:{port}", IDENTITY)
    log = base / "server.log"
    with log.open("wb") as output:
        env = os.environ | {"PYTHONSAFEPATH": "1"}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=base)
        try:
            _wait_ready(target, process)
            yield attrs.evolve(target, pid=process.pid)
        except wire.WireError as error:
            said = log.read_text(errors="replace")[-4000:]
            raise wire.WireError(f"{error}\nThe server's last words:\n{said}") from None
        finally:
            _stop(process)


@contextmanager
def bare(script: str, data: bytes, base: Path, *more: str) -> Iterator[Target]:
    """Run a baseline server, which answers every request with ``data``, or from the files that it names."""
    base.mkdir(parents=True, exist_ok=True)
    path = base / f"{script}.bytes"
    path.write_bytes(data)
    command = [sys.executable, str(Path(__file__).with_name(f"{script}.py")), str(path), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise wire.WireError(f"{script} did not start")
        yield Target(f"http://127.0.0.1:{port}", {})
    finally:
        _stop(process)


@contextmanager
def executor(base: Path, *options: str) -> Iterator[Target]:
    """Run ``strata executor`` in a new process, with the files of its builds under ``base``."""
    base.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "strata", "executor", "--port", str(port), "--directory", str(base)]
    env = os.environ | {"PYTHONSAFEPATH": "1"}
    with (base / "executor.log").open("wb") as output:
        process = subprocess.Popen(
            [*command, *options], stdout=output, stderr=subprocess.STDOUT, env=env, cwd=base
        )
    target = Target(f"http://127.0.0.1:{port}", {}, process.pid)
    try:
        _wait_ready(target, process, "/health")
        yield target
    finally:
        _stop(process)


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_ready(target: Target, process: subprocess.Popen[bytes], path: str = "/health/ready") -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with target.connect() as connection:
                if connection.get(path).status == 200:
                    return
        except OSError:
            pass  # not listening yet
        time.sleep(0.05)
    raise wire.WireError("the server did not become ready")


def wait_child(process: subprocess.Popen[bytes], port: int) -> int:
    """Wait until a process listens on a port and has a child; return the child, which does the work."""
    deadline = time.monotonic() + READY_SECONDS
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return int(children.read_text().split()[0])
        except (ConnectionRefusedError, IndexError):
            time.sleep(0.02)
    raise wire.WireError("nginx did not start")


def _stop(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
