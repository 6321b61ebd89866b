"""Server processes: Strata on fresh directories, and the bare baselines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs
import wire

TOKEN = "bench-only-proxy-token"
READY_SECONDS = 60.0
STOP_SECONDS = 30.0

IDENTITY = {
    "X-Strata-Proxy-Token": TOKEN,
    "X-Strata-Principal": "bench",
    "X-Tenant-ID": "bench",
    "X-Strata-Scopes": "admin:*",
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
rate_limit_enabled = {limited}

[tool.strata.warehouses]
bench = "{warehouse}"
"""


@attrs.frozen
class Target:
    """A server to measure.

    Attributes:
        url: Its base URL.
        headers: The identity to send.
    """

    url: str
    headers: Mapping[str, str]

    def connect(self) -> wire.Connection:
        """Open a connection to it."""
        return wire.Connection(self.url, self.headers)


@contextmanager
def strata(base: Path, warehouse: Path, *, limited: bool = False) -> Iterator[Target]:
    """Run ``strata serve`` in a new process, on empty directories under ``base``."""
    for name in ("cache", "artifacts"):
        (base / name).mkdir(parents=True)
    port = _free_port()
    places = {"base": base, "warehouse": warehouse}
    config = base / "strata.toml"
    config.write_text(CONFIG.format(**places, token=TOKEN, port=port, limited=str(limited).lower()))
    command = [sys.executable, "-m", "strata", "serve", "--config", str(config)]
    target = Target(f"http://127.0.0.1:{port}", IDENTITY)
    log = base / "server.log"
    with log.open("wb") as output:
        env = os.environ | {"PYTHONSAFEPATH": "1"}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=base)
        try:
            _wait_ready(target, process)
            yield target
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


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_ready(target: Target, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with target.connect() as connection:
                if connection.get("/health/ready").status == 200:
                    return
        except OSError:
            pass  # not listening yet
        time.sleep(0.05)
    raise wire.WireError("the server did not become ready")


def _stop(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
