"""A table's metadata may name any file; only files in its own warehouse are read."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from scanning import scanned

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import Catalogs
from strata.tables.files.confined import ConfinedFileIO

SECRET = pa.table({"id": pa.array([1, 2], pa.int64())})

TABLE = "mine:db.t"


def warehouse(path: Path) -> SqlCatalog:
    path.mkdir()
    made = SqlCatalog("strata", uri=f"sqlite:///{path / 'catalog.db'}", warehouse=str(path))
    made.create_namespace("db")
    return made


@pytest.fixture
def mine(tmp_path: Path) -> SqlCatalog:
    return warehouse(tmp_path / "mine")


@pytest.fixture
def catalogs(tmp_path: Path, mine) -> Catalogs:
    return Catalogs(warehouses={"mine": tmp_path / "mine"}, catalogs={}, any_file_warehouse=False)


@pytest.mark.parametrize(
    "spelled", ["{path}", "file://{path}", "{mine}/../theirs/secret.parquet", "{mine}/link.parquet"]
)
def test_a_data_file_of_another_warehouse_is_not_read(
    tmp_path: Path, mine, catalogs: Catalogs, spelled: str
) -> None:
    """Plain paths, paths with dots and links are refused; the refusal contains no path."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    pq.write_table(SECRET, theirs / "secret.parquet")
    (tmp_path / "mine" / "link.parquet").symlink_to(theirs / "secret.parquet")
    location = spelled.format(path=theirs / "secret.parquet", mine=tmp_path / "mine")
    table = mine.create_table("db.t", schema=SECRET.schema)
    table.add_files([location])

    found = scanned(catalogs, TABLE)
    assert isinstance(found, Refused)
    assert (Reason.DATA_UNREADABLE, "file_outside_warehouse") == (found.reason, found.code)
    assert str(tmp_path) not in found.detail


def test_metadata_outside_of_the_warehouse_is_not_read(tmp_path: Path, mine, catalogs: Catalogs) -> None:
    """A table in another place is refused by the location of its metadata file."""
    mine.create_table("db.t", schema=SECRET.schema, location=str(tmp_path / "elsewhere")).append(SECRET)
    found = scanned(catalogs, TABLE)
    assert isinstance(found, Refused)
    assert "file_outside_warehouse" == found.code


def test_a_directory_with_the_same_beginning_is_another_one(tmp_path: Path, mine, catalogs: Catalogs) -> None:
    """``mine-too`` is not below ``mine``."""
    (tmp_path / "mine-too").mkdir()
    pq.write_table(SECRET, tmp_path / "mine-too" / "secret.parquet")
    mine.create_table("db.t", schema=SECRET.schema).add_files([str(tmp_path / "mine-too" / "secret.parquet")])
    assert isinstance(scanned(catalogs, TABLE), Refused)


def test_files_brought_in_from_the_same_warehouse_are_read(tmp_path: Path, mine, catalogs: Catalogs) -> None:
    """Files added by ``add_files`` are read; the warehouse may be reached through a link."""
    pq.write_table(SECRET, tmp_path / "mine" / "own.parquet")
    mine.create_table("db.t", schema=SECRET.schema).add_files([str(tmp_path / "mine" / "own.parquet")])
    (tmp_path / "linked").symlink_to(tmp_path / "mine")
    linked = Catalogs(warehouses={"mine": tmp_path / "linked"}, catalogs={}, any_file_warehouse=False)
    assert SECRET.to_pylist() == scanned(catalogs, TABLE) == scanned(linked, TABLE)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", ["the file", "its directory"])
def test_a_link_that_is_put_in_while_a_file_is_opened_leads_to_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, first: bool
) -> None:
    """What is read is the file whose place was checked; its name may have another meaning before and after."""
    root, theirs = tmp_path / "mine", tmp_path / "theirs"
    for place, text in ((root / "data", b"mine"), (theirs, b"secret")):
        place.mkdir(parents=True)
        (place / "a.parquet").write_bytes(text)
    io, real = ConfinedFileIO(str(root)), os.open

    def swap() -> None:
        monkeypatch.setattr(os, "open", real)
        whole = kind == "its directory"
        swapped = root / "data" if whole else root / "data" / "a.parquet"
        swapped.rename(root / "away")
        swapped.symlink_to(theirs if whole else theirs / "a.parquet")

    def opened(path: str, flags: int) -> int:
        assert flags & os.O_PATH
        if first:
            swap()
            return real(path, flags)
        descriptor = real(path, flags)
        swap()
        return descriptor

    monkeypatch.setattr(os, "open", opened)
    if first:
        with pytest.raises(RefusalError) as caught:
            io.open_local(f"{root}/data/a.parquet")
        assert "file_outside_warehouse" == caught.value.refused.code
    else:
        with io.open_local(f"{root}/data/a.parquet") as file:
            assert b"mine" == file.read()


def test_a_file_that_is_replaced_while_it_is_open_stays_the_same_file(tmp_path: Path) -> None:
    """The descriptor, not the name, is read from."""
    (tmp_path / "a").write_bytes(b"first")
    io = ConfinedFileIO(str(tmp_path))
    with io.open_local(str(tmp_path / "a")) as file:
        (tmp_path / "b").write_bytes(b"other")
        (tmp_path / "b").rename(tmp_path / "a")
        assert b"first" == file.read()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_a_regular_file_is_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe in a data file's place is an error and holds no thread."""
    make(tmp_path / "a")
    file = ConfinedFileIO(str(tmp_path)).new_input(str(tmp_path / "a"))
    with pytest.raises(OSError, match="not a regular file"):
        file.open()
    assert not file.exists()


def test_a_missing_file_outside_is_refused_like_one_that_exists(tmp_path: Path) -> None:
    """A writer of a table does not learn which files the machine has."""
    root = tmp_path / "mine"
    root.mkdir()
    (tmp_path / "here").touch()
    io = ConfinedFileIO(str(root))
    codes = set()
    for name in ("here", "missing"):
        for read in (io.new_input(str(tmp_path / name)).open, partial(io.open_local, str(tmp_path / name))):
            with pytest.raises(RefusalError) as caught:
                read()
            codes.add(caught.value.refused.code)
    assert {"file_outside_warehouse"} == codes


def opened_below(root: Path) -> list[str]:
    """Return the files below a directory that this process has open."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(f"{root}/")]


def test_descriptors_are_closed_whatever_happens(tmp_path: Path) -> None:
    """Refused, missing, of another kind or read: no descriptor is left."""
    root = tmp_path / "mine"
    root.mkdir()
    (root / "a").write_bytes(b"abc")
    os.mkfifo(root / "pipe")
    io = ConfinedFileIO(str(root))
    assert 3 == len(io.new_input(str(root / "a")))
    for name in ("pipe", "missing"):
        with pytest.raises(OSError, match=r"regular|No such file"):
            io.open_local(str(root / name))
    assert [] == opened_below(root)
