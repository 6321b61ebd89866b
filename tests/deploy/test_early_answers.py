"""Early answers through the shipped proxy, whose connections to Strata are shared by all its clients."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path

import attrs
import pytest
from service_kit import TOKEN, Process, process

pytestmark = [pytest.mark.slow, pytest.mark.alone]

EARLY = 2000
SLOWEST_SECONDS = 10.0
SIZES = {"nothing": 0, "small": 1000, "large": 1_000_000, "huge": 20_000_000}
PIECE = b"x" * 65536

SERVER = """
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 32m;
        location / {{
            set $strata_principal "{principal}";
            set $strata_tenant {tenant};
            set $strata_scopes "";
            include {proxy};
            proxy_set_header X-Strata-Proxy-Token "{token}";
        }}
        include strata_errors.conf;
    }}
"""


@attrs.frozen
class Case:
    """A request that is answered early.

    Attributes:
        server: Which of the proxy's servers it goes to.
        statuses: What may be answered.
        method: Its method.
        path: Its path.
        sizes: Bodies it may have.
    """

    server: str
    statuses: frozenset[int]
    method: str
    path: str
    sizes: tuple[str, ...]


ALL, ACCEPTED, TOO_LARGE = tuple(SIZES), ("nothing", "small", "large"), ("huge",)
CASES = {
    401: Case("nobody", frozenset({401}), "POST", "/v1/materialize", ALL),
    404: Case("user", frozenset({404}), "POST", "/v1/nothing", ACCEPTED),
    405: Case("user", frozenset({405}), "POST", "/v1/artifacts", ACCEPTED),
    413: Case("user", frozenset({413}), "POST", "/v1/materialize", TOO_LARGE),
    429: Case("guesser", frozenset({401, 429}), "POST", "/v1/materialize", ALL),
}


@attrs.frozen
class Plan:
    """One early request: its case, its body, whether it is sent slowly, and past which of nginx's buffers."""

    case: Case
    size: int
    slow: bool
    buffered: bool


def plans(seed: int) -> list[Plan]:
    """Return a fixed mixture: every case with each of its bodies, few huge ones, a tenth sent slowly."""
    draw = random.Random(seed)
    weights = {"nothing": 440, "small": 440, "large": 100, "huge": 20}
    found = []
    for number in range(EARLY):
        case = CASES[draw.choices(list(CASES), [30, 20, 20, 1, 29])[0]]
        (size,) = draw.choices(case.sizes, [weights[name] for name in case.sizes])
        found.append(Plan(case, SIZES[size], draw.random() < 0.1, number % 2 == 0))
    return found


def body_of(plan: Plan) -> Iterator[bytes]:
    """Yield the body in parts; a slow body takes a few hundred milliseconds to send."""
    pieces = min(8, plan.size // 100) if plan.slow else 0
    first = plan.size // 2 if pieces else 0
    for _ in range(pieces):
        yield b"x" * (first // pieces)
        threading.Event().wait(0.03)
    left = plan.size - (first // pieces * pieces if pieces else 0)
    while left > 0:
        yield PIECE[: min(left, len(PIECE))]
        left -= len(PIECE)


@attrs.define
class Outcome:
    """Counts over all clients."""

    statuses: Counter[int] = attrs.field(factory=Counter)
    good: int = 0
    slowest: float = 0.0
    wrong: list[str] = attrs.field(factory=list)


class Client:
    """A keep-alive client of one of the proxy's servers."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._ids = itertools.count()
        self._port = port

    def ask(
        self, method: str, path: str, body: Iterator[bytes] | None, size: int
    ) -> tuple[int, Message, dict]:
        sent = f"client-{id(self)}-{next(self._ids)}"
        headers = {"X-Request-ID": sent, "Content-Length": str(size)}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = json.loads(response.read())
        assert sent == response.headers["X-Request-ID"], "another's answer"
        return response.status, response.headers, content


def misbehave(ports: dict[str, int], work: list[Plan], outcome: Outcome, lock: threading.Lock) -> None:
    clients: dict[str, Client] = {}
    for plan in work:
        name = plan.case.server + ("" if plan.buffered else "-unbuffered")
        client = clients.setdefault(name, Client(ports[name]))
        try:
            status, headers, problem = client.ask(plan.case.method, plan.case.path, body_of(plan), plan.size)
        except (OSError, http.client.HTTPException, AssertionError, ValueError) as error:
            with lock:
                outcome.wrong.append(f"{plan}: {error!r}")
            del clients[name]
            continue
        with lock:
            outcome.statuses[status] += 1
            if status not in plan.case.statuses or problem["status"] != status:
                outcome.wrong.append(f"{plan}: {status} {problem}")
            if status == 429 and int(headers["Retry-After"]) < 1:
                outcome.wrong.append(f"{plan}: {headers}")


def behave(port: int, over: threading.Event, outcome: Outcome, lock: threading.Lock) -> None:
    """Send well-behaved requests, each of which must be answered in time with the caller's own data."""
    client = Client(port)
    while not over.is_set():
        began = time.monotonic()
        try:
            status, headers, content = client.ask("GET", "/v1/artifacts", None, 0)
            found = (status, headers["X-Tenant-ID"], "artifacts" in content)
        except (OSError, http.client.HTTPException, AssertionError, ValueError) as error:
            found = (repr(error),)
            client = Client(port)
        with lock:
            outcome.good += 1
            outcome.slowest = max(outcome.slowest, time.monotonic() - began)
            if found != (200, "good-team", True):
                outcome.wrong.append(f"good request: {found}")


@pytest.fixture
def strata(tmp_path: Path) -> Iterator[Process]:
    settings = {
        "STRATA_DEPLOYMENT_MODE": "service",
        "STRATA_AUTH_MODE": "trusted_proxy",
        "STRATA_PROXY_TOKEN": TOKEN,
        "STRATA_MULTI_TENANT_ENABLED": "true",
        "STRATA_ARTIFACT_DIR": str(tmp_path / "artifacts"),
        "STRATA_CACHE_DIR": str(tmp_path / "cache"),
        "STRATA_RATE_LIMIT_ENABLED": "false",
        "STRATA_LOG_LEVEL": "WARNING",
    }
    with process(tmp_path, **settings) as server:
        yield server


@pytest.fixture
def proxy(tmp_path: Path, strata: Process, nginx_of, free_port) -> dict[str, int]:
    """Run the shipped proxy with servers for two users, one without an identity and one guessing tokens."""
    upstream = int(strata.url.rsplit(":", 1)[1])
    names = ("user", "good", "nobody", "guesser")
    ports = {name + more: free_port() for name in names for more in ("", "-unbuffered")}
    servers = "".join(
        SERVER.format(
            port=port,
            principal="" if name.startswith("nobody") else name.partition("-")[0],
            tenant="good-team" if name.startswith("good") else "other-team",
            token="a-wrong-token-of-some-length" if name.startswith("guesser") else TOKEN,
            proxy="unbuffered.conf" if name.endswith("-unbuffered") else "strata_proxy.conf",
        )
        for name, port in ports.items()
    )

    def change(tree: Path) -> None:
        text = (tree / "strata_proxy.conf").read_text()
        changed = text.replace("proxy_request_buffering on;", "proxy_request_buffering off;")
        assert changed != text
        (tree / "unbuffered.conf").write_text(changed)
        (tree / "nginx.conf").write_text(
            f"events {{ worker_connections 512; }}\nhttp {{\ninclude strata_http.conf;\n{servers}}}\n"
        )

    nginx_of("nginx.conf", {8765: upstream}, change=change, listening=ports["good"])
    return ports


def test_two_thousand_early_answers_stall_nobody(proxy: dict[str, int], strata: Process) -> None:
    """Early 401, 404, 405, 413 and 429 answers delay no other request on shared connections."""
    outcome, lock, over = Outcome(), threading.Lock(), threading.Event()
    work, threads = plans(seed=1), 6
    with ThreadPoolExecutor(threads + 2) as pool:
        good = [pool.submit(behave, proxy[name], over, outcome, lock) for name in ("good", "good-unbuffered")]
        bad = [pool.submit(misbehave, proxy, work[start::threads], outcome, lock) for start in range(threads)]
        for future in bad:
            future.result()
        over.set()
        for future in good:
            future.result()
    assert [] == outcome.wrong[:10]
    assert EARLY == outcome.statuses.total()
    assert set(CASES) == set(outcome.statuses)
    assert outcome.good > 200
    assert outcome.slowest < SLOWEST_SECONDS
    held = connections_of(int(strata.url.rsplit(":", 1)[1]))
    assert held <= 64 + len(proxy), "connections of early answers were not given back"


def connections_of(port: int) -> int:
    """Established connections to a loopback port, as the kernel counts them (proc(5), /proc/net/tcp)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == "01" for row in rows)
