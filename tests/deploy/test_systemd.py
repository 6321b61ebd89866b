"""The systemd unit: accepted by systemd's own check, and hardened as far as the server permits."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from programs import need

from strata.cli import main
from strata.config import Settings

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "strata.service"
MOST_EXPOSED = 25
"""Tenths: the exposure that systemd calls OK; the namespaces and the network of the server cost most of it."""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return a copy whose program is there."""
    copy = tmp_path / "strata.service"
    copy.write_text(UNIT.read_text().replace("/opt/strata/bin/strata", "/bin/true"))
    return copy


def _analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [need("systemd-analyze"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_accepts_the_unit(unit: Path) -> None:
    """No unknown key, value or group of system calls."""
    done = _analyzed("verify", str(unit))
    told = [line for line in done.stderr.splitlines() if "strata.service" in line]
    assert (0, []) == (done.returncode, told)


def test_systemd_accepts_the_socket(unit: Path) -> None:
    """It starts the unit of its name, at the port that the server has by default."""
    copy = unit.with_name("strata.socket")
    copy.write_text(UNIT.with_name("strata.socket").read_text())
    done = _analyzed("verify", str(copy), str(unit))
    told = [line for line in done.stderr.splitlines() if "strata." in line]
    assert (0, []) == (done.returncode, told)
    assert f"ListenStream={Settings().host}:{Settings().port}" in copy.read_text()


def test_the_unit_is_hardened(unit: Path) -> None:
    """The exposure by systemd's own measure stays where it is."""
    done = _analyzed("security", "--offline=yes", f"--threshold={MOST_EXPOSED}", str(unit))
    assert 0 == done.returncode, done.stdout


def test_its_commands_exist() -> None:
    """Each command of the unit is one of `strata` with these options."""
    lines = re.findall(r"^ExecStart(?:Pre)?=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert 2 == len(lines)
    for line in lines:
        program, command, option, _ = shlex.split(line)
        assert program.endswith("/bin/strata")
        shown = CliRunner().invoke(main, [command, "--help"])
        assert 0 == shown.exit_code
        assert option in shown.output
