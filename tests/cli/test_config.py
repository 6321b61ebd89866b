"""Settings of the command line: where they are read from, at the start and again on SIGHUP."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from strata.cli import main
from strata.cli.config import _through, checked_settings, load
from strata.config import ConfigError
from strata.outcomes import RefusalError
from strata.readers import ReaderPool
from strata.readers.pool import NO_PROCESS
from strata.sandbox.walls import WALLS


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory with a configuration."""
    place = tmp_path / "work"
    place.mkdir()
    (place / "pyproject.toml").write_text("[tool.strata]\nbulk_slots = 5\n")
    monkeypatch.chdir(place)
    return place


def test_settings_are_read_again_from_where_they_were(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the process has another working directory by then."""
    settings, again = checked_settings({})
    monkeypatch.chdir("/")
    (place / "pyproject.toml").write_text("[tool.strata]\nbulk_slots = 6\n")

    assert (5, 6) == (settings.bulk_slots, again().bulk_slots)


@pytest.mark.parametrize("content", [None, "", "[project]\nname = 'x'\n"])
def test_a_file_that_is_gone_is_a_problem_and_no_configuration_of_defaults(
    place: Path, content: str | None
) -> None:
    """Defaults have no access rules and no limits of tenants."""
    _, again = checked_settings({})
    (place / "pyproject.toml").unlink()
    if content is not None:
        (place / "pyproject.toml").write_text(content)

    with pytest.raises(ConfigError, match=r"--config: .*(cannot be read|has no \[tool.strata\] table)"):
        again()


def test_a_working_directory_that_is_gone_is_a_problem(place: Path) -> None:
    """It was an error of the system, which ended the server at the next SIGHUP."""
    _, again = checked_settings({})
    shutil.rmtree(place)
    with pytest.raises(ConfigError, match="--config"):
        again()
    with pytest.raises(ConfigError, match="the working directory cannot be read"):
        load({})


def test_check_names_the_walls_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With transforms enabled the sandbox is tried; where all of it is required, a missing wall is a problem."""
    file = tmp_path / "strata.toml"
    registry = "[[tool.strata.transforms.registry]]\nref = '*@*'\n"
    for sandbox, missing, status in (
        ("prefer", ("landlock",), 0),
        ("require", ("landlock",), 1),
        ("require", (), 0),
    ):
        file.write_text(f"[tool.strata.transforms]\nenabled = true\nsandbox = '{sandbox}'\n{registry}")
        with monkeypatch.context() as patched:
            patched.setattr("strata.cli.config._missing_walls", lambda missing=missing: missing)
            patched.setattr("strata.cli.config._readers", dict)
            found = CliRunner().invoke(main, ["check", "--config", str(file), "--json"])
        assert status == found.exit_code, found.output
        assert ("landlock" in found.output) == bool(missing)


def test_check_tries_the_sandbox_of_this_machine(tmp_path: Path) -> None:
    """The walls are raised in a process, and none that does not exist is named."""
    file = tmp_path / "strata.toml"
    file.write_text(
        "[tool.strata.transforms]\nenabled = true\n[[tool.strata.transforms.registry]]\nref = '*@*'\n"
    )
    found = CliRunner().invoke(main, ["check", "--config", str(file), "--json"])
    assert set(json.loads(found.output)["transforms"]["missing_walls"]) <= set(WALLS)
    readers = json.loads(found.output)["readers"]
    assert sorted(WALLS) == sorted(readers["walls"] + readers["missing_walls"])


def test_check_says_that_no_reader_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then no wall stands around what parses a data file."""

    def missing(_pool: ReaderPool) -> tuple[str, ...]:
        raise RefusalError(NO_PROCESS)

    monkeypatch.setattr(ReaderPool, "missing_walls", missing)
    found = CliRunner().invoke(main, ["check", "--json"], env={"HOME": str(tmp_path)})
    assert {"walls": [], "missing_walls": list(WALLS)} == json.loads(found.output)["readers"]


ME = {"principal": "ana", "tenant": "team-a"}
OFF = {
    "what": "POST /v1/materialize",
    "allowed": False,
    "detail": "This tenant is disabled.",
    "error": "tenant_disabled",
}
FINE = [
    {"what": "x", "allowed": True, "detail": None, "error": None},
    {"what": "y", "allowed": False, "detail": "This needs the scope z.", "error": "missing_scope"},
]
PROXIES: dict[str, tuple[int, object, str]] = {
    "sound": (200, {**ME, "checks": FINE}, ""),
    "disabled": (200, {**ME, "checks": [*FINE, OFF]}, "ana of team-a: POST /v1/materialize: This tenant is disabled. (tenant_disabled)"),
    "token": (401, {"detail": "Missing or invalid proxy token", "error": "invalid_token"}, "another token than proxy_token"),
    "header": (400, {"detail": "Missing X-Tenant-ID", "error": "missing_tenant"}, "Missing X-Tenant-ID (missing_tenant)."),
    "login": (401, "<html>", "its own authentication may have refused"),
    "elsewhere": (200, "hello", "answers 200, and not as Strata does"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROXIES)
def test_check_asks_by_the_proxy(place: Path, case: str) -> None:
    """What a caller would be refused for, and what is no answer of Strata's, is a warning that names it."""
    status, body, words = PROXIES[case]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is http.server's
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status if self.path == "/v1/me" else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        found = _through(f"http://127.0.0.1:{server.server_address[1]}/")
        server.shutdown()
        thread.join()
    assert bool(words) == bool(found)
    assert words in " ".join(found)


def test_check_says_that_the_proxy_does_not_answer() -> None:
    """A refused connection and an address that is none are warnings, too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://[", "nonsense"):
        [found] = _through(url)
        assert found.startswith(f"--proxy: {url} gives no answer: ")
