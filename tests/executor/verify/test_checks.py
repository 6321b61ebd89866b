"""The verification finds what an executor does wrong, and ends with a report whatever it does."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from click.testing import CliRunner
from executor_kit import answer, dying, scripted, stream_of

from strata.cli import main
from strata.executor.verify.checks import CHECKS, verify
from strata.executor.verify.subject import Subject

ROWS = stream_of(pa.record_batch({"n": [1]}))


def test_there_are_many_checks_with_a_promise_each() -> None:
    """Each has a first line for the report, and no two have one name."""
    assert 25 <= len({one.__name__ for one in CHECKS})
    assert all(one.__doc__ for one in CHECKS)


@pytest.mark.parametrize(
    ("script", "failed", "passed"),
    [
        (
            answer(ROWS),
            {"another_version_is_refused", "a_wrong_token_is_refused", "an_unknown_path_is_refused"},
            {"a_build_is_answered"},
        ),
        (answer(ROWS[:-8]), {"a_build_is_answered", "it_is_well_afterwards"}, {"health_answers"}),
        (
            answer(ROWS, more="X-Arrow-Row-Count: 7\r\n"),
            {"the_rows_are_as_many_as_said"},
            {"a_build_is_answered"},
        ),
        (dying, {"a_build_is_answered", "a_half_body_is_refused"}, {"health_names_the_protocol"}),
        (answer(b"{}", status="500 Oops"), {"a_missing_input_is_refused"}, {"health_counts_builds"}),
    ],
)
async def test_a_wrong_executor_is_found_out(script, failed: set, passed: set, monkeypatch) -> None:
    """An executor that takes everything, cuts its answers, lies about rows, dies, or has no messages."""
    monkeypatch.setattr("strata.executor.verify.subject.ANSWER_SECONDS", 5)
    async with scripted(script) as server:
        found = await verify(Subject(server.url, "token", "double@v1", {}), lambda _: None)
    faults = {one.name for one in found if one.fault is not None}
    assert failed <= faults
    assert not passed & faults


def test_the_command_reports_an_executor_that_is_not_there() -> None:
    """Every check fails with its reason, as JSON too, and the exit status is 1."""
    found = CliRunner().invoke(main, ["executor", "verify", "http://127.0.0.1:9", "--json"])
    report = json.loads(found.output)
    assert (1, False, len(CHECKS)) == (found.exit_code, report["passed"], len(report["checks"]))
    wrong = CliRunner().invoke(main, ["executor", "verify", "http://127.0.0.1:9", "--params", "x"])
    assert "--params is no JSON object" in wrong.output


def test_an_executor_for_all_addresses_needs_a_token() -> None:
    """Without one it listens on the loopback alone."""
    found = CliRunner(env={"STRATA_WORKER_TOKEN": ""}).invoke(main, ["executor", "--host", "0.0.0.0"])
    assert 1 == found.exit_code
    assert "give a token" in found.output
