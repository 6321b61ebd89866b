"""Logs are machine-readable lines with an id, without local variables, headers or rows."""

import errno
import io
import json
import logging

import pytest
import structlog

from strata.observability.logs import OURS, configure


@pytest.fixture(autouse=True)
def _restore():
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    structlog.reset_defaults()


SECRET = "s3cr3t row"


def crash() -> None:
    row = "s3cr3t row"
    raise ValueError(len(row))


def test_json_lines_carry_level_time_and_event() -> None:
    """Each line is one JSON object, those of libraries included."""
    out = io.StringIO()
    configure("INFO", "json", out)
    structlog.get_logger("strata.x").info("done", request_id="r1", tenant="t")
    logging.getLogger("some.library").warning("careful %s", "now")

    first, second = map(json.loads, out.getvalue().splitlines())
    assert ("done", "info", "r1", "t") == (
        first["event"],
        first["level"],
        first["request_id"],
        first["tenant"],
    )
    assert "timestamp" in first
    assert ("careful now", "warning") == (second["event"], second["level"])


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_traceback_never_shows_local_variables(style: str) -> None:
    """Local variables hold rows, headers and tokens."""
    out = io.StringIO()
    configure("INFO", style, out)
    try:
        crash()
    except ValueError:
        structlog.get_logger("x").exception("failed")

    assert "ValueError" in out.getvalue()
    assert "s3cr3t" not in out.getvalue()


def test_levels_below_the_configured_one_are_not_written() -> None:
    """Lines below log_level are not written."""
    out = io.StringIO()
    configure("WARNING", "json", out)
    structlog.get_logger("x").info("quiet")
    structlog.get_logger("x").warning("loud")

    assert ["loud"] == [json.loads(line)["event"] for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("library", ["hypercorn.access", "quart.app", "httpx", "alembic.runtime.migration"])
def test_libraries_that_repeat_requests_are_kept_quiet(library: str) -> None:
    """INFO lines of libraries, which hold URLs and statements, are not written."""
    out = io.StringIO()
    configure("DEBUG", "json", out)
    logging.getLogger(library).info("GET /v1/names/s3cr3t")

    assert "" == out.getvalue()


def fail(word: str) -> None:
    try:
        try:
            raise KeyError(word)  # noqa: TRY301 - the shortest way to a cause
        except KeyError as error:
            raise ExceptionGroup(word, [ValueError(word), OSError(28, word)]) from error
    except ExceptionGroup:
        raise RuntimeError(word)  # noqa: B904 - the context is the point


@pytest.mark.parametrize("style", ["json", "text"])
def test_an_exception_is_shown_without_its_message(style: str) -> None:
    """Messages, which may hold values, are left out, those of causes and groups included."""
    out = io.StringIO()
    configure("INFO", style, out)
    try:
        fail(SECRET)
    except RuntimeError:
        structlog.get_logger("strata.x").exception("failed")
        logging.getLogger("lib").exception("failed as well")

    assert SECRET not in out.getvalue()
    for kind in ("KeyError", "ExceptionGroup", "ValueError", "OSError [errno 28]", "RuntimeError"):
        assert 2 == out.getvalue().count(f"builtins.{kind}")
    assert "in fail" in out.getvalue()


def test_a_request_cannot_write_lines_or_colours_into_a_text_log() -> None:
    """Line breaks, escape sequences and bidirectional controls are escaped."""
    out = io.StringIO()
    configure("INFO", "text", out)
    structlog.get_logger("strata.x").info(
        "request", path="/v1/x\n2026 [error] forged\x1b[31m\x85\u2028\u202e"
    )

    assert 1 == len(out.getvalue().splitlines())
    assert out.getvalue().rstrip("\n").isprintable()
    assert "forged" in out.getvalue()


def test_a_log_that_cannot_be_written_fails_no_caller() -> None:
    """A full disk under the log, or a pipe whose reader left, is no reason to refuse a request."""

    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

    configure("INFO", "json", Full())
    structlog.get_logger("strata.x").info("request", status=200)
    closed = io.StringIO()
    configure("INFO", "json", closed)
    closed.close()
    structlog.get_logger("strata.x").error("request", status=500)
