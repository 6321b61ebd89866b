"""What stands in the place of a stored file without being one is refused at once, and holds no thread."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from scanning import scanned

from strata.artifacts import BLOB_GONE, BlobReader, LocalBlobStore
from strata.cache import SegmentKey, packs
from strata.cache.index import PackedSegment
from strata.outcomes import Reason, Refused
from strata.regular_files import as_arrow_file, open_regular
from strata.tables import Catalogs

TABLE = "wh:db.t"


def open_files() -> set[tuple[str, str]]:
    """Return the descriptors and what they are of; not that of this listing."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add((path.name, str(path.readlink())))
    return {one for one in found if not one[1].endswith("/fd")}


def in_place_of(path: Path, what: str) -> None:
    """Put a FIFO, a directory or a link to a FIFO in the place of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    elif what == "link to a fifo":
        os.mkfifo(path.with_name(f"{path.name}.fifo"))
        path.symlink_to(path.with_name(f"{path.name}.fifo"))


WHAT = ("fifo", "directory", "link to a fifo")


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("follow", [False, True])
def test_only_regular_files_are_opened(tmp_path: Path, what: str, follow: bool) -> None:  # noqa: FBT001
    """Opening fails without waiting, and leaves no descriptor."""
    in_place_of(tmp_path / "f", what)
    before = open_files()
    with pytest.raises(OSError, match=r"not a regular file|symbolic links") as raised:
        open_regular(tmp_path / "f", follow=follow)
    assert raised.value.errno in (errno.EINVAL, errno.ELOOP)
    with pytest.raises(OSError):  # noqa: PT011  # ENXIO: a FIFO without a reader; EISDIR
        open_regular(tmp_path / "f", os.O_WRONLY, follow=follow)
    assert not open_files() - before  # what other tests have left may be closed meanwhile


def test_a_link_is_followed_where_it_may_be(tmp_path: Path) -> None:
    """A warehouse may link to files; Arrow reads the file that was opened."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path / "link")
    descriptor = open_regular(tmp_path / "link", follow=True)
    (tmp_path / "link").unlink()
    with as_arrow_file(descriptor) as file:
        assert b"content" == file.read()


@pytest.mark.parametrize("what", WHAT)
def test_no_blob_is_read_from_anything_else(tmp_path: Path, what: str) -> None:
    """A result whose place something else has taken is gone, and built anew."""
    store = LocalBlobStore(tmp_path)
    writer = store.begin("t")
    writer.append((b"rows",))
    facts = writer.commit()
    found = store.open_reader("t", facts.sha256, 4)
    assert isinstance(found, BlobReader)
    os.close(found.fd)
    in_place_of(facts.path, what)
    assert BLOB_GONE == store.open_reader("t", facts.sha256, 4)


@pytest.mark.parametrize("what", WHAT)
def test_no_segment_is_read_from_anything_else(tmp_path: Path, what: str) -> None:
    """A cache file whose place something else has taken counts as damaged."""
    in_place_of(tmp_path / "pack", what)
    assert packs.read(tmp_path / "pack", PackedSegment(SegmentKey("f", 0), 0, 4, 0, 1)) is None


def warehouse(path: Path) -> Catalogs:
    path.mkdir()
    catalog = SqlCatalog("strata", uri=f"sqlite:///{path / 'catalog.db'}", warehouse=str(path))
    catalog.create_namespace("db")
    rows = pa.table({"id": pa.array([1, 2], pa.int64())})
    catalog.create_table("db.t", schema=rows.schema).append(rows)
    return Catalogs(warehouses={"wh": path}, catalogs={}, any_file_warehouse=False)


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("name", ["catalog.db", "*.metadata.json", "snap-*.avro", "*-m0.avro", "*.parquet"])
def test_no_table_is_read_from_anything_else(tmp_path: Path, name: str, what: str) -> None:
    """Catalog, metadata, manifests and data: the scan is refused, and names the kind of file."""
    catalogs = warehouse(tmp_path / "wh")
    for path in sorted((tmp_path / "wh").rglob(name)):
        in_place_of(path, what)
    found = scanned(catalogs, TABLE)
    assert isinstance(found, Refused)
    assert (Reason.UNAVAILABLE if name == "catalog.db" else Reason.DATA_UNREADABLE) is found.reason
