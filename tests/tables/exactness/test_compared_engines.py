"""The page about the comparison with other engines says what ``nox -s oracles`` compares."""

from __future__ import annotations

import tomllib
from pathlib import Path

from duckdb_differences import KNOWN
from foreign import TABLES
from oracles_page import VERSIONS, page

ROOT = Path(__file__).parents[3]


def test_the_page_lists_what_is_compared() -> None:
    """The page equals the output of ``oracles_page``."""
    assert page() == (ROOT / "docs" / "reference" / "compared-with-other-engines.md").read_text()


def test_known_differences_are_of_tables_that_exist() -> None:
    """Each entry names a table of the generators."""
    assert [] == sorted(KNOWN.keys() - TABLES.keys())


def test_the_versions_on_the_page_are_those_that_are_installed() -> None:
    """The requirements of the session name the same releases."""
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["oracles"]
    for package in ("duckdb", "duckdb-extension-iceberg"):
        assert f"{package}=={VERSIONS[package]}" in group
    assert f"pyspark>={VERSIONS['pyspark']},<3.6" in group
