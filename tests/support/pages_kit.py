"""The pages as people get them: a server with tables, the real nginx before it, and a browser."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import attrs
import pytest
import trio
from programs import need
from service_kit import TOKEN, free_port, running

from strata.config import Settings
from strata.config.fields import NotebookWorker
from strata.http.api import docs
from strata.http.routes.pages import files
from strata.ui import Pages, installed_pages, load_pages

DEPLOY = Path(__file__).parents[2] / "deploy"

START_SECONDS = 60.0
"""Seconds after which a server or nginx that does not listen fails the tests."""


@attrs.frozen
class Caller:
    """An identity that nginx states, and a path that it puts before the server's."""

    principal: str
    scopes: str = ""
    prefix: str = "/"


def pages() -> Pages:
    """Return the built pages: those of the folder ``PAGES``, or the installed ones; else skip the test."""
    found = load_pages(Path(os.environ["PAGES"])) if "PAGES" in os.environ else installed_pages()
    if found is None:
        pytest.skip("the pages are not built here: install the wheel, or set PAGES to a build's folder")
    return found


def settings_of_pages(root: Path, **more: object) -> Settings:
    """Return the settings of a server behind nginx, with its folders below ``root``, and a worker for cells."""
    return Settings(
        deployment_mode="service", auth_mode="trusted_proxy", proxy_token=TOKEN, multi_tenant_enabled=True,
        require_tenant_header=True, artifact_dir=str(root / "artifacts"), cache_dir=str(root / "cache"),
        log_level="ERROR", rate_limit_global_rps=0, rate_limit_client_rps=0, rate_limit_scan_rps=0,
        notebook_workers=(NotebookWorker("local", memory_bytes=512 << 20),), **more,
    )  # fmt: skip


@contextmanager
def served(settings: Settings, port: int = 0) -> Iterator[int]:
    """Run a server with the pages in a thread, on a port (0: chosen by the system); yields its port."""
    built = pages()
    told: SimpleQueue[tuple[int, trio.lowlevel.TrioToken, trio.Event] | BaseException] = SimpleQueue()

    async def run() -> None:
        async with running(settings, port) as server:
            stop = trio.Event()
            listens = int(server.url.rpartition(":")[2])
            told.put((listens, trio.lowlevel.current_trio_token(), stop))
            await stop.wait()

    def main() -> None:
        try:
            trio.run(run)
        except BaseException as error:  # noqa: BLE001  # told to the test
            told.put(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "installed_pages", lambda: built)
        patch.setattr(docs, "installed_pages", lambda: built)
        thread = threading.Thread(target=main, daemon=True)
        thread.start()
        found = told.get(timeout=START_SECONDS)
        if isinstance(found, BaseException):
            raise found
        listens, token, stop = found
        try:
            yield listens
        finally:
            token.run_sync_soon(stop.set)
            thread.join(START_SECONDS)


@contextmanager
def proxied(
    directory: Path, upstream: int, callers: dict[str, Caller], *others: int
) -> Iterator[dict[str, str]]:
    """Run nginx on the shipped files, a port for each caller; yields the address of each, by name.

    Args:
        directory: Where its files are.
        upstream: The port of the server behind it.
        callers: The callers.
        others: The ports of further servers, of the same database.
    """
    ports = [
        f"127.0.0.1:{port}{' max_fails=1 fail_timeout=2s' * bool(others)}" for port in (upstream, *others)
    ]
    for path in DEPLOY.glob("strata_*.conf"):
        text = path.read_text().replace("127.0.0.1:8765;", "; server ".join(ports) + ";")
        (directory / path.name).write_text(text)
        (directory / f"below_{path.name}").write_text(
            text.replace("proxy_pass http://strata;", "proxy_pass http://strata/;")
        )
    addresses, servers = {}, []
    for name, caller in callers.items():
        port = free_port()
        addresses[name] = f"http://127.0.0.1:{port}{caller.prefix}"
        include = "below_strata_proxy.conf" if caller.prefix != "/" else "strata_proxy.conf"
        quoted = caller.principal.replace("\\", "\\\\").replace('"', '\\"')
        servers.append(
            f"""server {{ listen 127.0.0.1:{port};
            location {caller.prefix} {{
                set $strata_principal "{quoted}"; set $strata_tenant team; set $strata_scopes "{caller.scopes}";
                include {include};
                proxy_set_header X-Strata-Proxy-Token "{TOKEN}";
            }} include strata_errors.conf; }}"""
        )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    config = directory / "nginx.conf"
    config.write_text(
        f"{user}worker_processes 1;\ndaemon off;\npid {directory}/nginx.pid;\nerror_log {directory}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{paths} include strata_http.conf;\n{''.join(servers)} }}\n"
    )
    process = subprocess.Popen([need("nginx"), "-c", str(config)], stderr=subprocess.PIPE)
    try:
        for address in addresses.values():
            _wait(int(re.findall(r":(\d+)/", address)[0]), process)
        yield addresses
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(2_000):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            threading.Event().wait(0.02)
        else:
            return
    assert process.stderr is not None
    pytest.fail(f"nginx did not start: {process.stderr.read().decode()}")
