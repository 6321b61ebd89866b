"""nginx with the shipped files in front of servers, and the processor time of processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import servers
import wire

DEPLOY = Path(__file__).parents[1] / "deploy"
TICK = os.sysconf("SC_CLK_TCK")

NGINX = """\
worker_processes 1;
pid {base}/nginx.pid;
error_log {base}/error.log warn;
daemon off;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {base}/body;
    proxy_temp_path {base}/proxy;
    fastcgi_temp_path {base}/fastcgi;
    uwsgi_temp_path {base}/uwsgi;
    scgi_temp_path {base}/scgi;
    include strata_http.conf;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            set $strata_principal bench;
            set $strata_tenant $http_x_bench_tenant;
            set $strata_scopes "admin:*";
            include strata_proxy.conf;
            proxy_set_header X-Strata-Proxy-Token {token};
        }}
        include strata_accel.conf;
{locations}
    }}
}}
"""


@contextmanager
def nginx(
    base: Path, targets: Sequence[servers.Target], artifacts: Path, locations: str = ""
) -> Iterator[tuple[int, int]]:
    """Run nginx with the shipped files in front of servers; yields its port and its worker's process.

    Args:
        base: Directory of its files.
        targets: The servers.
        artifacts: The servers' directory of results.
        locations: Further locations.
    """
    base.mkdir()
    for name in ("strata_http.conf", "strata_proxy.conf", "strata_accel.conf", "strata_objects.conf"):
        text = (DEPLOY / name).read_text()
        lines = "\n".join(f"    server {target.url.removeprefix('http://')};" for target in targets)
        text = text.replace("    server 127.0.0.1:8765;", lines)
        (base / name).write_text(text.replace("/data/artifacts/", f"{artifacts}/"))
    port = servers.free_port()
    config = base / "nginx.conf"
    config.write_text(NGINX.format(base=base, port=port, token=servers.TOKEN, locations=locations))
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise wire.WireError("nginx is missing: apt-get install nginx, or --direct")
    user = "user root;" if os.geteuid() == 0 else ""
    process = subprocess.Popen([program, "-p", str(base), "-c", str(config), "-g", user])
    try:
        worker = servers.wait_child(process, port)
        yield port, worker
    finally:
        process.terminate()
        process.wait(servers.STOP_SECONDS)


def seconds_of(process: int) -> float:
    """Return the processor time of a process so far, its threads included and its children not.

    It is read from the kernel's clock of the process, whose number is that of ``clock_getcpuclockid(3)``:
    ``/proc`` counts ticks of 10 ms.
    """
    return time.clock_gettime((~process << 3) | 2)
