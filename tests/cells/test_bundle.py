"""Bundles are plain tars that others read, and nothing that is none is taken for one."""

from __future__ import annotations

import io
import json
import random
import tarfile
import tempfile

import pytest

from strata.cells.bundle import BundleError, BundleWriter, read_bundle


def written(**members: bytes) -> bytes:
    with tempfile.TemporaryFile(buffering=0) as file:
        writer = BundleWriter(file)
        for name, data in members.items():
            writer.add(f"files/{name}", data)
        writer.end({"success": True})
        file.seek(0)
        return file.read()


def read(data: bytes):
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        return read_bundle(file.fileno())


def test_what_is_written_is_read_by_us_and_by_any_tar() -> None:
    """Members are found at their places; Python's tarfile reads the same ones."""
    data = written(empty=b"", one=b"1", block=b"x" * 512, more=b"y" * 513)
    bundle = read(data)
    assert {"schema_version": "notebook-output-bundle@v1", "success": True} == bundle.manifest
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive.getmembers():
            found = bundle.members[member.name]
            assert (member.offset_data, member.size) == (found.offset, found.nbytes)
            assert archive.extractfile(member).read() == data[found.offset : found.offset + found.nbytes]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_bundles_of_other_executors_are_read(kind: int) -> None:
    """Each format of tarfile is read, as long as the names are short."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, data in {
            "stdout.txt": b"hi",
            "files/y.json": b"42",
            "manifest.json": json.dumps({"schema_version": "notebook-output-bundle@v1"}).encode(),
        }.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5
            archive.addfile(info, io.BytesIO(data))
    bundle = read(file.getvalue())
    place = bundle.members["files/y.json"]
    assert b"42" == file.getvalue()[place.offset : place.offset + place.nbytes]


def test_any_damage_is_an_error_and_nothing_else() -> None:
    """Cut anywhere, or with any byte of a head changed, it is a bundle of the same places, or an error."""
    data = written(one=b"1" * 700)
    expected = read(data).members
    seed = random.Random(4)
    for cut in sorted(seed.sample(range(len(data) - 1024), 200)):
        with pytest.raises(BundleError):
            read(data[:cut])
    for _ in range(500):
        at, value = seed.randrange(len(data)), seed.randrange(256)
        try:
            found = read(data[:at] + bytes([value]) + data[at + 1 :])
        except BundleError:
            continue
        assert expected == found.members


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes) -> None:
    """A member that is no plain file is an error."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        info = tarfile.TarInfo("files/x")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(BundleError):
        read(file.getvalue())
