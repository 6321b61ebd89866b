"""Vended credentials: those of the longest prefix for each file, renewed when they end in the middle of a scan."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.fs import LocalFileSystem, PyFileSystem
from pyiceberg.io.pyarrow import PyArrowFileIO

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.catalogs.vended import Vended, VendedFileIO

KEY = "s3.access-key-id"


class Store:
    """A directory as an object store: who may read, and what was read with which key."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.allowed = {"META", "DATA", "SHORT", "NEW"}
        self.keys: list[tuple[str, str]] = []

    def handler(self, key: str) -> PyFileSystem:
        return PyFileSystem(_Handler(self, key))


class _Handler(pa.fs.FileSystemHandler):
    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key, self._files = store, key, LocalFileSystem()

    def _path(self, path: str) -> str:
        self._store.keys.append((path, self._key))
        if self._key not in self._store.allowed:
            raise OSError("AWS Error ACCESS_DENIED: expired")
        return f"{self._store.root}/{path}"

    def get_type_name(self):
        return "store"

    def normalize_path(self, path):
        return path

    def get_file_info(self, paths):
        found = self._files.get_file_info([self._path(path) for path in paths])
        return [pa.fs.FileInfo(path, one.type, size=one.size) for path, one in zip(paths, found, strict=True)]

    def open_input_file(self, path):
        return pa.PythonFile(_Body(self, path), mode="r")

    def _unused(self, *_args, **_more):
        raise NotImplementedError

    copy_file = create_dir = delete_dir = delete_dir_contents = delete_file = delete_root_dir_contents = (
        _unused
    )
    get_file_info_selector = move = open_append_stream = open_input_stream = open_output_stream = _unused


class _Body:
    closed = False

    def __init__(self, handler: _Handler, path: str) -> None:
        self._handler, self._path = handler, path
        self._file = Path(handler._path(path)).open("rb")  # noqa: SIM115  # closed by Arrow

    def read(self, count):
        self._handler._path(self._path)
        return self._file.read(count)

    def seek(self, *where):
        return self._file.seek(*where)

    def tell(self):
        return self._file.tell()

    def close(self):
        self.closed = True
        self._file.close()


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    found = Store(tmp_path)
    for name in ("bkt/wh/m.json", "bkt/elsewhere/d.parquet", "bkt/other/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0123456789")
    monkeypatch.setattr(
        PyArrowFileIO, "_initialize_fs", lambda self, _scheme, _host=None: found.handler(self.properties[KEY])
    )
    return found


def vended(**keys: str) -> Vended:
    return Vended({KEY: "NONE"}, [(prefix, {KEY: key}) for prefix, key in keys.items()])


PREFIXES = {"s3://bkt/wh": "META", "s3://bkt/elsewhere": "DATA", "s3://bkt": "SHORT"}


def refuse() -> Vended:
    raise RefusalError(Refused(Reason.UNAVAILABLE, "The catalog is unavailable"))


def test_each_file_is_read_with_the_credentials_of_its_longest_prefix(store):
    """Metadata, data elsewhere and what only a short prefix covers."""
    io = VendedFileIO(vended(**PREFIXES), "s3://bkt/wh/m.json", refuse)
    for location in ("s3://bkt/wh/m.json", "s3://bkt/elsewhere/d.parquet", "s3://bkt/other/x"):
        with io.new_input(location).open() as file:
            assert (10, b"0123456789") == (file.size(), file.read())
    assert {
        ("bkt/wh/m.json", "META"),
        ("bkt/elsewhere/d.parquet", "DATA"),
        ("bkt/other/x", "SHORT"),
    } == set(store.keys)
    assert "META" == io.properties[KEY]


def test_credentials_that_end_in_the_middle_of_a_file_are_asked_for_again(store):
    """The read goes on where it was; a second reader takes the new ones and asks for none."""
    asked = []

    def renew() -> Vended:
        asked.append(1)
        return vended(**{"s3://bkt": "NEW"})

    io = VendedFileIO(vended(**PREFIXES), "s3://bkt/wh/m.json", renew)
    first, second = (io.new_input("s3://bkt/elsewhere/d.parquet").open() for _ in range(2))
    with first, second:
        assert b"0123" == first.read(4)
        store.allowed = {"NEW"}
        assert (b"4567", 8) == (first.read(4), first.tell())
        assert b"01" == second.read(2)
        assert 10 == len(io.new_input("s3://bkt/other/x"))
    assert [1] == asked


def test_a_read_fails_once_new_credentials_do_not_help(store):
    """The catalog is asked once for each failed read, not for ever."""
    io = VendedFileIO(vended(**PREFIXES), "s3://bkt/wh/m.json", lambda: vended(**{"s3://bkt": "GONE"}))
    store.allowed = set()
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        io.new_input("s3://bkt/elsewhere/d.parquet").open()


def test_a_catalog_that_vends_no_new_ones_is_the_refusal(store):
    """What the catalog answers now counts: the table may have been taken away."""
    io = VendedFileIO(vended(**PREFIXES), "s3://bkt/wh/m.json", refuse)
    store.allowed = set()
    with pytest.raises(RefusalError, match="unavailable"):
        io.new_input("s3://bkt/elsewhere/d.parquet").open()


def test_a_missing_file_asks_for_no_credentials(store):
    """Otherwise every missing file would be a request to the catalog."""
    io = VendedFileIO(vended(**PREFIXES), "s3://bkt/wh/m.json", refuse)
    with pytest.raises(FileNotFoundError):
        io.new_input("s3://bkt/wh/none").open()


def test_no_credential_is_in_a_representation():
    """Logs and tracebacks show representations."""
    assert "META" not in repr(vended(**PREFIXES))
