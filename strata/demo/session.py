"""One run of the demo, from data to exit."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trio

from strata.demo.dataset import STEPS, prepare
from strata.demo.errors import DemoError, DirectoryInUseError
from strata.demo.report import Reporter
from strata.demo.serve import Ports, configure_demo, run_demo
from strata.observability.logs import configure


def run_session(ports: Ports, *, once: bool, data: Path | None, as_json: bool) -> bool:
    """Write the tables, serve them, check the server, and continue to serve unless ``once``.

    Args:
        ports: Ports to listen on.
        once: End after the checks.
        data: Directory that keeps the tables; ``None``: a temporary one.
        as_json: Print results as JSON.

    Returns:
        Whether every check passed.

    Raises:
        DemoError: If the demo cannot run here.
    """
    configure("WARNING", "text")
    logging.getLogger("pyiceberg").setLevel(
        logging.ERROR
    )  # its warnings about tables are not for the demo's user
    reporter = Reporter(as_json=as_json)
    ports.probe()
    with _directory(data) as directory:
        reporter.begin(STEPS)
        try:
            tables = prepare(directory, reporter.step)
        finally:
            reporter.end()
        demo = configure_demo(tables, ports)
        try:
            return trio.run(partial(run_demo, demo, reporter, once=once))
        except* OSError as group:  # a port taken since the probe, a full disk
            reason = "; ".join(sorted({str(error) for error in _leaves(group)}))
    raise DemoError(f"the demo's server could not run: {reason}")


def _leaves(group: BaseExceptionGroup[OSError]) -> Iterator[OSError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Lock the directory itself until the end of the block: a demo deletes what it finds of an earlier one.

    Raises:
        DirectoryInUseError: If another demo has it, or it is no directory.
    """
    other = "use --data with another one"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DirectoryInUseError(f"{directory} cannot be used: {error.strerror}; {other}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUseError(f"{directory} is in use by another demo; {other}") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _directory(data: Path | None) -> Iterator[Path]:
    if data is not None:
        with _alone_in(data.expanduser()):
            yield data
        return
    with tempfile.TemporaryDirectory(prefix="strata-demo-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)
