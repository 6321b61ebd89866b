"""A server that drills break: what its log, metrics, alerts, ``/v1/me`` and ``strata check`` say of it.

What they must say is in the table of docs/how-to/runbook.md, of which each row is a drill.
"""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time

import attrs
import httpx
import pytest
from click.testing import CliRunner
from programs import need
from service_kit import ARROW, Process, free_port, identity, process, scan

from strata.cli import main

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
RUNBOOK = ROOT / "docs" / "how-to" / "runbook.md"

REQUESTS = 24
"""Requests of a drill: alerts about single callers want more than twenty."""

SECONDS = 120.0
"""Seconds to wait for what a server does by itself, on a machine of any load."""


@attrs.frozen
class Row:
    """What the runbook says of a failure: the texts in its cells' code, and whether a cell has any."""

    log: tuple[str, ...]
    metric: tuple[str, ...]
    alert: tuple[str, ...]
    me: tuple[str, ...]
    check: tuple[str, ...]


def table() -> dict[str, Row]:
    """Return the rows of the runbook's table by failure."""
    rows = {}
    for line in RUNBOOK.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 6 and cells[0] != "failure":
            rows[cells[0].strip()] = Row(*(tuple(re.findall(r"`([^`]+)`", cell)) for cell in cells[1:]))
    return rows


Scrape = dict[str, float]


@attrs.define
class Site:
    """A server process, and the configuration it was started with.

    Attributes:
        running: The process.
        file: Its configuration.
        metrics: The port of its metrics.
        scrapes: Its metrics: before a drill, after its first request, and after all.
        read: Characters of the log that belong to earlier drills.
    """

    running: Process
    file: Path
    metrics: int
    scrapes: list[Scrape] = attrs.field(factory=list)
    read: int = 0

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.running.url, headers=headers or identity(), verify=False, timeout=60
        )

    def log(self) -> str:
        """Return what the server has logged since the drill's beginning."""
        return self.running.log.read_text(errors="replace")[self.read :]

    def mark(self) -> int:
        """Forget what has been logged so far; returns how much that is."""
        self.read = len(self.running.log.read_text(errors="replace"))
        return self.read

    def logged(self, text: str) -> None:
        """Wait until the log has a text."""
        self.until(lambda: text in self.log(), text)

    def until(self, seen: Callable[[], bool], what: str) -> None:
        """Wait until something is seen; fail if the server ends, or after a while."""
        end = monotonic() + SECONDS
        while not seen():
            assert monotonic() < end, f"{what} is not in {self.log()}"
            try:
                self.running.popen.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(self.log())

    def recovers(self, asks: Callable[[], httpx.Response]) -> None:
        """Wait until a request succeeds that a mended failure was the only hindrance of."""
        self.until(lambda: asks().status_code == 200, "an answer with status 200")

    def scrape(self) -> Scrape:
        """Return each sample by its name and labels, as in a rule's unit test."""
        with httpx.Client(timeout=SECONDS) as client:
            found: list[httpx.Response] = []

            def answered() -> bool:  # on a full machine a scrape may take too long, which is 503
                found.append(client.get(f"http://127.0.0.1:{self.metrics}/metrics"))
                return found[-1].status_code == 200

            self.until(answered, "metrics")
        lines = found[-1].text.splitlines()
        parts = [line.rpartition(" ") for line in lines if not line.startswith("#")]
        return {name: float(value) for name, _, value in parts}

    def hang_up(self) -> None:
        """Have the server read its configuration again, and wait until it has."""
        before = self.log().count("configuration read again")
        self.running.popen.send_signal(signal.SIGHUP)
        self.until(lambda: self.log().count("configuration read again") > before, "configuration read again")

    def drill(self, asks: Callable[[], httpx.Response], times: int = REQUESTS) -> list[httpx.Response]:
        """Make a failing request again and again; note the metrics before it, after the first and at the end."""
        self.mark()
        self.scrapes = [self.scrape()]
        answers = [asks()]
        self.scrapes.append(self.scrape())
        answers += [asks() for _ in range(times - 1)]
        self.scrapes.append(self.scrape())
        return answers

    def names(self, row: Row, me: str, check: list[str]) -> None:
        """Check that the five places name the cause as the runbook's row says.

        Args:
            row: The row.
            me: The text of the answer of ``/v1/me``.
            check: Further arguments of ``strata check``.
        """
        for text in row.log:
            self.logged(text)
        before, after = self.scrapes[0], self.scrapes[-1]
        for text in row.metric:
            moved = [name for name, value in after.items() if value != before.get(name, 0.0)]
            assert any(_is(text, name) for name in moved), (text, moved)
        check_alerts(self.scrapes, row.alert)
        for text in row.me:
            assert text in me, (text, me)
        said = self.check(*check)
        for text in row.check:
            assert text in said, (text, said)

    def check(self, *more: str) -> str:
        """Return the output of ``strata check``."""
        trusted = {"SSL_CERT_FILE": str(self.file.parent / "authority.pem")}
        with pytest.MonkeyPatch.context() as patched:  # the walls of this machine are no matter of a drill
            patched.setattr("strata.cli.config._readers", dict)
            patched.setattr("strata.cli.config._missing_walls", tuple)
            return CliRunner().invoke(main, ["check", "--config", str(self.file), *more], env=trusted).output


def _is(text: str, sample: str) -> bool:
    """Whether a sample has the name of ``text``, and each of its labels."""
    name, _, labels = text.rstrip("}").partition("{")
    return sample.partition("{")[0] == name and all(one in sample for one in labels.split(",") if one)


def check_alerts(scrapes: list[Scrape], alerts: tuple[str, ...]) -> None:
    """Check by promtool that alerts fire after a drill, and none of them did before it.

    Each sample was scraped every minute for half an hour with the value of the first scrape, then with those
    of the others. promtool's clock begins at zero: times since the epoch are moved to it.
    """
    minute = 30 + len(scrapes) + 2
    moved = time() - 60 * minute
    series, names = [], sorted({name for scrape in scrapes for name in scrape if name.startswith("strata_")})
    for name in names:
        values = [scrape.get(name, "_") for scrape in scrapes]
        if "_timestamp_seconds" in name:
            values = [value - moved for value in values if isinstance(value, float)]
        parts = [f"{values[0]}x30", *map(str, values[1:-1]), f"{values[-1]}x15"]
        family, _, labels = name.rstrip("}").partition("{")
        shown = ", ".join(['job="strata"', 'instance="a:9465"', *filter(None, [labels])])
        series.append(f"      - series: '{family}{{{shown}}}'\n        values: '{' '.join(parts)}'\n")
    asks = [
        f'      - expr: \'count(ALERTS{{alertstate="firing", alertname="{alert}"}})\'\n'
        f"        eval_time: {at}m\n        exp_samples: {samples}\n"
        for alert in alerts
        for at, samples in ((28, "[]"), (minute, "[{labels: '{}', value: 1}]"))
    ]
    test = (
        f"rule_files: ['{RULES}']\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n"
        f"{''.join(series)}    promql_expr_test:\n{''.join(asks)}"
    )
    done = subprocess.run(
        [need("promtool"), "test", "rules", "/dev/stdin"],
        input=test, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr


@contextmanager
def site(directory: Path, write: Callable[[int, int], Path], **environment: str) -> Iterator[Site]:
    """Run a server with the configuration that ``write`` makes of two ports.

    Args:
        directory: The process's directory.
        write: Writes a file, given the port and that of the metrics, and returns its path.
        environment: Further settings.
    """
    port, metrics = free_port(), free_port()
    file = write(port, metrics)
    anyone = ssl.create_default_context()
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    tls = anyone if "tls_certificate" in file.read_text() else None
    with process(directory, port=port, tls=tls, **environment) as running:
        yield Site(running, file, metrics)


def materialize(client: httpx.Client, table: str, **body: object) -> httpx.Response:
    """Ask for a whole result in one request."""
    return client.post("/v1/materialize", json=scan(table, **body), headers={"Accept": ARROW})
