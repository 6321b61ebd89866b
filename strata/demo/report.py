"""Output of the demo: progress, a table of the checks, and commands to try."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import attrs
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from strata.demo.checks import FLIGHTS, INTERNAL, Check


@attrs.frozen
class Addresses:
    """Base URLs of the demo.

    Attributes:
        server: The server itself, which requires the proxy's token.
        user: The port with the identity ``demo-user``.
        admin: The port with the identity ``demo-admin``.
    """

    server: str
    user: str
    admin: str


class Reporter:
    """Shows progress on standard error and results on standard output.

    On a terminal, progress is a bar and the results are a drawn table; elsewhere both are plain text.

    Args:
        as_json: Print results as one JSON object.
        out: Standard output; replaceable for tests.
        err: Standard error; replaceable for tests.
    """

    def __init__(self, *, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._json = as_json
        self._console = Console(file=self._out, soft_wrap=False)
        self._err = Console(file=err or sys.stderr, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def begin(self, total: int) -> None:
        """Begin a task of ``total`` steps."""
        if not self._err.is_terminal:
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._err, transient=True)
        self._task = self._bar.add_task("", total=total)
        self._bar.start()

    def step(self, what: str) -> None:
        """Show the next step."""
        if self._bar is None or self._task is None:
            self._err.print(what, markup=False)
            return
        self._bar.update(self._task, description=what, advance=1)

    def end(self) -> None:
        """End the task, successful or not."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def results(self, addresses: Addresses, checks: Sequence[Check]) -> None:
        """Show the results of the checks."""
        if self._json:
            json.dump(results_json(addresses, checks), self._out, indent=2)
            print(file=self._out, flush=True)
        elif self._console.is_terminal:
            self._console.print(_drawn(checks))
        else:
            self._out.write("\n".join(_plain(checks)) + "\n")
            self._out.flush()

    def rows(self, title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows of a table; on standard error if results are JSON."""
        console = self._err if self._json else self._console
        if not console.is_terminal:
            lines = [title, *("  ".join(row) for row in (names, *rows))]
            console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
            return
        table = Table(*names, title=title, box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)

    def hints(self, addresses: Addresses, token_file: str) -> None:
        """Show commands to try; on standard error if results are JSON."""
        text = examples(addresses, token_file)
        (self._err if self._json else self._console).print(
            text, markup=False, highlight=False, soft_wrap=True
        )


def results_json(addresses: Addresses, checks: Sequence[Check]) -> dict[str, Any]:
    """Return the results as JSON-serialisable objects; times are in seconds."""
    return {
        "passed": all(check.passed for check in checks),
        "addresses": attrs.asdict(addresses),
        "checks": [attrs.asdict(check) for check in checks],
    }


def command() -> str:
    """Return how to call ``strata`` in a shell: by its name, if it is there under it."""
    return "strata" if shutil.which("strata") else f"{shlex.quote(sys.executable)} -m strata"


def examples(addresses: Addresses, token_file: str) -> str:
    """Return commands to paste; each runs as it is printed."""
    strata = command()
    return f"""
Open it in a browser: {addresses.user}/ as demo-user, {addresses.admin}/ as demo-admin

Or try it in another terminal, as demo-user:

  export STRATA_CLIENT_URL={addresses.user}
  {strata} ls
  {strata} head {FLIGHTS}
  curl -s "{addresses.user}/v1/tables/describe?uri={FLIGHTS}"

A table that is not for demo-user, and demo-admin, who may read it:

  {strata} why {INTERNAL} || {strata} why {INTERNAL} --url {addresses.admin}

Another tenant, by the server's own port, sees none of demo-team's results:

  curl -s {addresses.server}/v1/artifacts -H "X-Strata-Proxy-Token: $(cat {shlex.quote(token_file)})" \\
      -H 'X-Strata-Principal: other-user' -H 'X-Tenant-ID: other-team'

All routes: {addresses.user}/docs

Ctrl-C ends it.
"""


def _drawn(checks: Sequence[Check]) -> Table:
    table = Table(
        title="What strata demo checked itself, over HTTP", box=box.SIMPLE_HEAD, padding=(0, 1, 1, 0)
    )
    table.add_column("")
    table.add_column("check", ratio=2)
    table.add_column("seen", ratio=3)
    for check in checks:
        mark = "[green]pass[/]" if check.passed else "[red]FAIL[/]"
        times = [f"[cyan]{escape(line)}[/]" for line in _times(check)]
        table.add_row(mark, escape(check.name), "\n".join([escape(check.detail), *times]))
    return table


def _times(check: Check) -> list[str]:
    """Return a line for each measured time, with what to compare it with."""
    lines = []
    for what, seconds in check.seconds.items():
        other = check.beside.get(what)
        compared = f"; {other.what}: {other.seconds:.3f} s" if other is not None else ""
        lines.append(f"{what}: {seconds:.3f} s{compared}")
    return lines


def _plain(checks: Sequence[Check]) -> list[str]:
    lines = []
    for check in checks:
        lines.append(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
        lines += [f"      {line}" for line in _times(check)]
    failed = sum(not check.passed for check in checks)
    return [*lines, f"{len(checks) - failed} of {len(checks)} checks passed"]
