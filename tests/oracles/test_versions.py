"""The page names the releases that these tests compare with."""

from __future__ import annotations

from importlib.metadata import version

from oracles_page import VERSIONS
from spark_iceberg import runtime_jar


def test_the_page_names_the_installed_releases() -> None:
    """Packages by their metadata, Iceberg by the name of its jar."""
    jar = runtime_jar().stem.rpartition("-")[2]
    installed = {name: version(name) for name in VERSIONS if name != "iceberg-spark-runtime"}
    assert VERSIONS == installed | {"iceberg-spark-runtime": jar}
