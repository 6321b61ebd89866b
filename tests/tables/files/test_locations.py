"""A location is a path as it stands, never a URL to be cut."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO

from strata.tables.files.confined import ConfinedFileIO, LocalFileIO, regular
from strata.tables.files.footers import open_source
from strata.tables.files.locations import LiteralFileIO

ODD = ["f", "f#1", "f?v=2", "a#b/f", "a?b#c/f", "#", "?", "f%23", "f;x", "a b/ä"]


@pytest.mark.parametrize("confined", [True, False], ids=["warehouse", "catalog"])
def test_a_name_with_marks_of_urls_is_another_file(tmp_path: Path, *, confined: bool) -> None:
    """Each file is read as itself: cut at the mark, some of these are the first."""
    io = ConfinedFileIO(str(tmp_path)) if confined else LocalFileIO({})
    for number, name in enumerate(ODD):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"number": [number]}), path)
    for start in ("file://", "file:", ""):
        found = []
        for name in ODD:
            with open_source(io, f"{start}{tmp_path}/{name}") as source:
                found += pq.read_table(source).column("number").to_pylist()
        assert list(range(len(ODD))) == found


def test_a_location_of_an_object_store_keeps_its_marks() -> None:
    """Bucket and key of an object are split at the first slash; a bucket has none of the marks."""
    assert ("s3", "b", "b/k/a#1?x") == LiteralFileIO.parse_location("s3://b/k/a#1?x")
    assert ("s3", "b", "b/k") == LiteralFileIO.parse_location("s3://b/k")


def test_only_pyicebergs_own_file_io_is_replaced() -> None:
    """One of a catalog's own keeps its rules, and ours its properties."""
    ours = regular(PyArrowFileIO({"s3.region": "x"}))
    assert (LocalFileIO, {"s3.region": "x"}) == (type(ours), ours.properties)
    assert regular(ours) is ours
