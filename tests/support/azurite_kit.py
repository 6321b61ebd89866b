"""Azurite, Microsoft's emulator of Azure's blob service: installed from npm, started on loopback, or a skip."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import os
import re
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from programs import need

VERSION = "3.35.0"
INSTALL_SECONDS = 300.0
ACCOUNT = "strata"
KEY = base64.b64encode(b"a key of the tests only").decode()
LISTENING = re.compile(r"listens on (http://\S+)")

CACHE = Path(tempfile.gettempdir()) / f"strata-tests-{os.getuid()}" / f"azurite-{VERSION}"
"""Where it is installed, once for all processes of the suite and for the next run."""


def _main() -> Path:
    """Return Azurite's program, installed if need be; skip the test without node or npm."""
    npm = need("npm")  # Debian's brings node
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    if CACHE.parent.stat().st_uid != os.getuid():
        pytest.skip(f"{CACHE.parent} belongs to another user")
    main = CACHE / "node_modules/azurite/dist/src/blob/main.js"
    descriptor = os.open(CACHE / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not (CACHE / "complete").exists():
            (CACHE / "package.json").write_text('{"name": "azurite-of-tests", "private": true}')
            command = [npm, "install", "--prefix", CACHE, "--no-audit", "--no-fund", f"azurite@{VERSION}"]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS, cwd=CACHE)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"Azurite cannot be installed from npm: {error}")
            (CACHE / "complete").touch()
    finally:
        os.close(descriptor)
    return main


@contextmanager
def azurite() -> Iterator[str]:
    """Start Azurite; returns the address of its account, ``http://127.0.0.1:<port>/<account>``."""
    main = _main()
    with tempfile.TemporaryDirectory() as place:
        process = subprocess.Popen(
            [
                "node", main, "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence",
                "--skipApiVersionCheck", "--disableTelemetry",
            ],
            cwd=place, env=os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if found := LISTENING.search(line):
                    yield f"{found[1]}/{ACCOUNT}"
                    return
            pytest.fail(f"Azurite ended: {said}")
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def make_container(address: str, name: str) -> None:
    """Create a container; its request is signed by hand, since the client library creates none."""
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    signed = (
        "PUT\n\n\n\n\n\n\n\n\n\n\n\n"
        f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    )
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0",
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
    }  # fmt: skip
    request = urllib.request.Request(f"{address}/{name}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request, timeout=30).close()
