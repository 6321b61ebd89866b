import io
import json

import pytest

from strata.demo.checks import Beside, Check
from strata.demo.report import Addresses, Reporter

ADDRESSES = Addresses("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")
CHECKS = [
    Check(
        "Rows are exact",
        passed=True,
        detail="3 rows [all]",
        seconds={"cold scan": 0.25},
        beside={"cold scan": Beside("pyiceberg", 0.5)},
    ),
    Check("Denied is denied", passed=False, detail="answered [200], where 404 was due"),
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(out, *, as_json=False):
    err = io.StringIO()
    reporter = Reporter(as_json=as_json, out=out, err=err)
    reporter.begin(2)
    reporter.step("writing [flights]")
    reporter.end()
    reporter.results(ADDRESSES, CHECKS)
    reporter.hints(ADDRESSES, "/d/proxy-token")
    return out.getvalue(), err.getvalue()


def test_json_is_all_there_is_on_standard_output():
    """A program reads one object; text for people goes to standard error."""
    out, err = shown(io.StringIO(), as_json=True)
    found = json.loads(out)

    assert found["passed"] is False
    assert found["addresses"]["user"] == ADDRESSES.user
    assert found["checks"][0] == {
        "name": "Rows are exact",
        "passed": True,
        "detail": "3 rows [all]",
        "seconds": {"cold scan": 0.25},
        "beside": {"cold scan": {"what": "pyiceberg", "seconds": 0.5}},
    }
    assert "curl" in err


def test_away_from_a_terminal_results_are_plain_lines():
    """A log file gets no boxes and no colours; brackets are text."""
    out, err = shown(io.StringIO())

    assert "pass  Rows are exact: 3 rows [all]\n      cold scan: 0.250 s; pyiceberg: 0.500 s\n" in out
    assert "FAIL  Denied is denied: answered [200], where 404 was due" in out
    assert "1 of 2 checks passed" in out
    assert out.isascii()
    assert err == "writing [flights]\n"


def test_on_a_terminal_results_are_a_table(monkeypatch):
    """The table shows the details, markup characters included."""
    monkeypatch.setenv("TERM", "xterm")
    out, _ = shown(Terminal())

    assert "3 rows [all]" in out
    assert "FAIL" in out
    assert "0.250 s; pyiceberg: 0.500 s" in out


@pytest.mark.parametrize("address", [ADDRESSES.user, ADDRESSES.admin, ADDRESSES.server])
def test_every_address_is_in_what_there_is_to_try(address):
    """The commands can be pasted as they are and contain no secret: the token is read from its file."""
    out, _ = shown(io.StringIO())

    assert address in out
    assert "$(cat /d/proxy-token)" in out
