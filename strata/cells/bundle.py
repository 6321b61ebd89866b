"""The bundle of a cell's results: an uncompressed tar whose last member, the manifest, describes the others.

A cell's process writes it into an open file, and the server does not trust it: :func:`read_bundle` checks all
that it returns. Members are plain files of the ustar format, so other executors can read and make them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

import attrs

SCHEMA: Final = "notebook-output-bundle@v1"
"""What the manifest calls its format."""

MANIFEST: Final = "manifest.json"
"""Name of the last member."""

FILES: Final = "files/"
"""What the names of values and displays begin with."""

BLOCK: Final = 512
"""Bytes of a block of a tar."""

MAX_MEMBERS: Final = 20_000
"""Maximum members of a bundle."""

MAX_MANIFEST_BYTES: Final = 8 * 1024 * 1024
"""Maximum bytes of a manifest."""

_SIZE: Final = slice(124, 136)
_CHECKSUM: Final = slice(148, 156)
_BASE_256: Final = 0x80


class BundleError(Exception):
    """The bytes are no bundle."""


@attrs.frozen
class Member:
    """Where a member's bytes are in the bundle.

    Attributes:
        offset: Offset of the first one.
        nbytes: Their number.
    """

    offset: int
    nbytes: int


@attrs.frozen
class Bundle:
    """A bundle that was read.

    Attributes:
        members: The members by name.
        manifest: The manifest, a JSON object.
    """

    members: Mapping[str, Member]
    manifest: Mapping[str, Any]


class BundleWriter:
    """Writes a bundle into a file; its process is the one that owns the file.

    Args:
        file: The file, buffered, at its beginning.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def begin(self, name: str, nbytes: int) -> BinaryIO:
        """Begin a member of ``nbytes`` bytes, which the caller writes into the returned file."""
        self._file.write(_head(name, nbytes))
        return self._file

    def finish(self, nbytes: int) -> None:
        """Fill the last block of a member of ``nbytes`` bytes."""
        self._file.write(bytes(-nbytes % BLOCK))

    def add(self, name: str, data: bytes) -> None:
        """Add a member."""
        self.begin(name, len(data)).write(data)
        self.finish(len(data))

    def end(self, manifest: Mapping[str, Any]) -> None:
        """Add the manifest, and end the bundle."""
        self.add(MANIFEST, json.dumps({"schema_version": SCHEMA, **manifest}).encode())
        self._file.write(bytes(2 * BLOCK))


def read_bundle(descriptor: int) -> Bundle:
    """Read the places of a bundle's members, and its manifest; blocking.

    Raises:
        BundleError: If the file is no bundle.
        OSError: If it cannot be read.
    """
    size = os.fstat(descriptor).st_size
    members: dict[str, Member] = {}
    for name, member in _members(descriptor, size):
        if name in members or len(members) >= MAX_MEMBERS:
            raise BundleError("the bundle has a member twice, or too many")
        members[name] = member
    last = members.get(MANIFEST)
    if last is None or next(reversed(members)) != MANIFEST:
        raise BundleError("the bundle does not end with its manifest")
    if last.nbytes > MAX_MANIFEST_BYTES:
        raise BundleError(f"the manifest has more than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = json.loads(os.pread(descriptor, last.nbytes, last.offset))
    except (ValueError, RecursionError):
        raise BundleError("the manifest is no JSON") from None
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA:
        raise BundleError(f"the manifest is not one of {SCHEMA}")
    return Bundle(members, manifest)


def _members(descriptor: int, size: int) -> Iterator[tuple[str, Member]]:
    """Yield the plain files of a tar until its empty block."""
    at = 0
    while at + BLOCK <= size:
        head = os.pread(descriptor, BLOCK, at)
        if len(head) < BLOCK:
            raise BundleError("the bundle is cut off")
        if not any(head):
            return
        nbytes = _number(head[_SIZE])
        checked = head[: _CHECKSUM.start] + b" " * 8 + head[_CHECKSUM.stop :]
        if _number(head[_CHECKSUM]) != sum(checked):
            raise BundleError("a member's checksum is wrong")
        member = Member(at + BLOCK, nbytes)
        if member.offset + nbytes > size:
            raise BundleError("the bundle is cut off")
        kind = head[156:157]
        if kind in (b"0", b"\0"):
            prefix = head[345:500].rstrip(b"\0") if head[257:262] == b"ustar" else b""
            name = head[:100].rstrip(b"\0")
            yield _decoded(prefix + b"/" + name if prefix else name), member
        elif kind not in (b"5", b"x", b"g"):  # folders and notes on members have no data of ours
            raise BundleError("a member is no plain file")
        at = member.offset + nbytes + -nbytes % BLOCK
    raise BundleError("the bundle is cut off")


def _decoded(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise BundleError("a member's name is no UTF-8") from None


def _number(field: bytes) -> int:
    """Return a number of a head: octal digits, or from 8 GiB on a binary number."""
    if field[0] & _BASE_256:
        return int.from_bytes(bytes([field[0] & ~_BASE_256]) + field[1:], "big")
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        raise BundleError("a member's head has no number") from None


def _head(name: str, nbytes: int) -> bytes:
    """Return the head of a member, in the ustar format."""
    text = name.encode()
    if len(text) > 100:  # noqa: PLR2004  # bytes of the field
        raise ValueError("the member's name is too long")
    octal = b"%011o\0" % nbytes if nbytes < 8**11 else b"\x80" + nbytes.to_bytes(11, "big")
    head = bytearray(BLOCK)
    head[:100] = text.ljust(100, b"\0")
    head[100:124] = b"0000600\0" + b"0000000\0" * 2
    head[_SIZE] = octal
    head[136:148] = b"%011o\0" % 0
    head[_CHECKSUM] = b" " * 8
    head[156:157] = b"0"
    head[257:265] = b"ustar\x0000"
    head[_CHECKSUM] = b"%06o\0 " % sum(head)
    return bytes(head)
