"""The result of a run of a cell, and what makes two runs the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec

KEY_VERSION: Final = 1
"""Version of keys; results under keys of another version are not found."""

MAX_CONSOLE_CHARACTERS: Final = 64 * 1024
"""Maximum characters that are kept of each stream of a run; the rest is cut off."""

REFUSED: Final = ""
"""Identity of the rows that a run was refused."""

OK: Final = "ok"
"""How a run ended that had no error."""


@attrs.frozen
class Output:
    """A value that a run left, in its bundle.

    Attributes:
        content_type: Its form.
        sha256: Hash of its form and bytes.
        offset: Offset of its first byte.
        nbytes: Its bytes.
        type: Its type in Python.
        preview: A short text for it.
    """

    content_type: str
    sha256: str
    offset: int
    nbytes: int
    type: str
    preview: str


@attrs.frozen
class Shown:
    """Something that a run displayed, in its bundle; see :class:`Output`."""

    content_type: str
    offset: int
    nbytes: int
    preview: str


@attrs.frozen
class TableRead:
    """A table that a run read.

    Attributes:
        table: Its URI.
        params: What was read of it.
        key: Identity of the rows: with other versions or rights it is another one; :data:`REFUSED`: none.
    """

    table: str
    params: Mapping[str, Any]
    key: str


@attrs.frozen(kw_only=True)
class CellResult:
    """The result of a run of a cell.

    Attributes:
        key: Identity of the run, without the tables that it reads; see :func:`run_key`.
        source: Hash of the cell's source.
        inputs: Hash of each value that it took.
        outputs: The values that it left.
        displays: What it displayed, in order.
        displays_left_out: Displays that are not kept.
        changed: Inputs that it changed in place, which no other cell sees.
        how: How it ended: :data:`OK`, or the code of an error.
        message: A sentence about the error.
        traceback: The traceback, if it raised.
        line: Line of the cell where it failed, if that is known.
        seconds: Seconds that it took.
        stdout: What it printed.
        stderr: The same, of its errors.
        principal: Who ran it.
        revision: Revision of the notebook that it ran in.
        reads: Tables that it read.
        versions: Versions of all tables behind it by URI, those behind its inputs included: a principal who
            may not read one of them does not see the result.
        sha256: Hash of its bundle; ``None``: it left none.
        nbytes: Bytes of the bundle.
    """

    key: str
    source: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, Output] = attrs.field(factory=dict)
    displays: tuple[Shown, ...] = ()
    displays_left_out: int = 0
    changed: tuple[str, ...] = ()
    how: str = OK
    message: str = ""
    traceback: str | None = None
    line: int | None = None
    seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""
    principal: str = ""
    revision: int = 0
    reads: tuple[TableRead, ...] = ()
    versions: Mapping[str, str] = attrs.field(factory=dict)
    sha256: str | None = None
    nbytes: int = 0

    @property
    def ok(self) -> bool:
        """True if it ended without an error."""
        return self.how == OK


def source_hash(source: str) -> str:
    """Return the hash of a cell's source; blanks at its end do not count."""
    return hashlib.sha256(source.rstrip().encode(errors="surrogatepass")).hexdigest()


def run_key(
    *,
    source: str,
    inputs: Mapping[str, str],
    defines: tuple[str, ...],
    runtime: str,
    bound: Mapping[str, Any],
) -> str:
    """Return the identity of a run: equal ones may share a result, if their tables are the same, too.

    Args:
        source: Hash of the source.
        inputs: Hash of each value that it takes.
        defines: Names whose values it leaves.
        runtime: Identity of the worker's interpreter and libraries.
        bound: Plain values that are bound to names.
    """
    parts = [KEY_VERSION, source, sorted(inputs.items()), list(defines), runtime, sorted(bound.items())]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def encode_result(result: CellResult) -> str:
    """Return a result as JSON."""
    return msgspec.json.encode(result).decode()


def decode_result(text: str) -> CellResult:
    """Return the result of :func:`encode_result`."""
    return msgspec.json.decode(text, type=CellResult)
