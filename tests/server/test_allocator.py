"""The allocator is configured before it is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strata.server.process import PURGE_DELAY_MS, return_memory_soon


def test_an_operators_own_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value from the environment wins."""
    monkeypatch.setenv("MIMALLOC_PURGE_DELAY", "500")
    return_memory_soon()
    assert "500" == os.environ["MIMALLOC_PURGE_DELAY"]
    monkeypatch.delenv("MIMALLOC_PURGE_DELAY")
    return_memory_soon()
    assert PURGE_DELAY_MS == os.environ["MIMALLOC_PURGE_DELAY"]


def test_arrow_is_not_loaded_before_it_is_told(tmp_path: Path) -> None:
    """`strata serve` sets the variable before Arrow, which reads it once when loaded."""
    program = (
        "import sys\n"
        "import importlib\n"
        "main = importlib.import_module('strata.cli.main')\n"
        "def told():\n"
        "    print('pyarrow' in sys.modules)\n"
        "    raise SystemExit(7)\n"
        "main.return_memory_soon = told\n"
        "sys.argv = ['strata', 'serve']\n"
        "main.main()\n"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("STRATA_")}
    clean |= {"STRATA_CACHE_DIR": str(tmp_path / "cache"), "STRATA_ARTIFACT_DIR": str(tmp_path / "artifacts")}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=clean, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (7, "False") == (ran.returncode, ran.stdout.strip()), ran.stderr
