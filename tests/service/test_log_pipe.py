"""Whatever becomes of the log, the server serves, and ends when it is told to."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from programs import need
from service_kit import environment, free_port, identity

from strata.config import Settings

STARTS = {
    "closed": "2>&-",
    "all closed": "<&- >&- 2>&-",
    "a full device": "2>/dev/full",
    "a full pipe": "",
}


def full_pipe() -> tuple[int, int]:
    """Return a pipe that takes no byte more."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    return read, write


@pytest.mark.parametrize("start", STARTS)
def test_a_server_whose_log_goes_nowhere_serves_and_stops(
    tmp_path: Path, settings: Settings, start: str
) -> None:
    """It accepts requests, more than any pipe holds lines of, and SIGTERM ends it with status 0."""
    port = free_port()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("STRATA_")}
    command = [need("bash"), "-c", f'exec "$@" {STARTS[start]}', "x", sys.executable, "-m", "strata", "serve"]
    read, write = full_pipe()
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        env=clean | environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=write,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, headers=identity()) as client:
            wait_for(client, server)
            statuses = {client.get("/v1/me").status_code for _ in range(600)}
        server.send_signal(signal.SIGTERM)
        assert ({200}, 0) == (statuses, server.wait(30))
    finally:
        server.kill()
        server.wait()
        os.close(read)
        os.close(write)


def wait_for(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    """Return once the server accepts connections; fail if it ends before, or does not in half a minute."""
    for _ in range(600):
        try:
            client.get("/health")
        except httpx.ConnectError:
            with suppress(subprocess.TimeoutExpired):
                server.wait(0.05)
            assert server.returncode is None
        else:
            return
    raise AssertionError("the server accepts no connections")
