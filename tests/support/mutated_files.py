"""Tables of which one file is damaged, made from a seed: none of them is kept in the repository."""

from __future__ import annotations

import random
import sqlite3
import struct
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs
import pyarrow as pa
from foreign.maker import File, Maker

ROWS = 40
"""Rows of each table before deletes."""

_SPECIAL = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 0x80, 2**24, 16)


def numbers_and_texts() -> pa.Table:
    """Return the rows of each table: a number, and a text that says the number, some of them null."""
    texts = [f"text {at}" if at % 7 else None for at in range(ROWS)]
    return pa.table({"id": pa.array(range(ROWS), pa.int64()), "s": pa.array(texts, pa.string())})


def mutated(data: bytes, drawn: random.Random, start: int = 0, stop: int | None = None) -> bytes:
    """Return bytes with one to three changes that begin between ``start`` and ``stop``."""
    changed = bytearray(data)
    stop = len(data) if stop is None else stop
    for _ in range(drawn.choice((1, 1, 1, 2, 3))):
        at = drawn.randrange(start, max(start + 1, min(stop, len(changed))))
        match drawn.randrange(8):
            case 0 | 1 | 2:  # bytes
                for place in range(at, min(at + drawn.choice((1, 1, 2, 4)), len(changed))):
                    changed[place] = drawn.randrange(256)
            case 3:  # a bit
                changed[at : at + 1] = bytes(one ^ 1 << drawn.randrange(8) for one in changed[at : at + 1])
            case 4:  # a number that may be a length
                changed[at : at + 4] = struct.pack(drawn.choice("<>") + "I", drawn.choice(_SPECIAL))[
                    : len(changed) - at
                ]
            case 5:  # two numbers change places
                other = drawn.randrange(start, max(start + 1, min(stop, len(changed))))
                width = min(4, len(changed) - max(at, other))
                one, two = changed[at : at + width], changed[other : other + width]
                changed[at : at + width], changed[other : other + width] = two, one
            case 6:  # a cut: of some bytes, or of all that follow
                del changed[at : drawn.choice((at + drawn.randrange(1, 40), len(changed)))]
            case _:  # something twice
                changed[at:at] = changed[at : at + drawn.randrange(1, 20)]
    return bytes(changed)


@attrs.frozen
class Case:
    """A table with a damaged file.

    Attributes:
        name: The table's name.
        file: The damaged file.
        metadata: Location of the table's metadata file.
        changed: Whether the damage changed any byte.
    """

    name: str
    file: Path
    metadata: str
    changed: bool


Build = Callable[[Maker, random.Random], "tuple[Path, bool]"]


def _path(file: Mapping[str, object], key: str = "file_path") -> Path:
    return Path(str(file[key]).removeprefix("file://"))


def _damage(path: Path, drawn: random.Random, start: int = 0, stop: int | None = None) -> bool:
    data = path.read_bytes()
    after = mutated(data, drawn, start, stop)
    path.write_bytes(after)
    return after != data


def _data(t: Maker, drawn: random.Random) -> File:
    options = {
        "compression": drawn.choice(("none", "snappy", "zstd", "gzip")),
        "use_dictionary": drawn.random() < 0.5,
        "data_page_version": drawn.choice(("1.0", "2.0")),
        "row_group_size": drawn.choice((ROWS, 25)),
        "write_page_checksum": True,
    }
    return t.parquet(numbers_and_texts(), **options)


def _resized(file: File, drawn: random.Random) -> File:
    """Let a manifest say the size that a damaged file has, in three of four tables."""
    return file if drawn.randrange(4) == 0 else file | {"file_size_in_bytes": _path(file).stat().st_size}


def _footer(t: Maker, drawn: random.Random) -> tuple[Path, bool]:
    file = _data(t, drawn)
    path = _path(file)
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    changed = _damage(path, drawn, len(data) - 8 - length)
    t.append(_resized(file, drawn))
    return path, changed


def _page(t: Maker, drawn: random.Random) -> tuple[Path, bool]:
    file = _data(t, drawn)
    path = _path(file)
    before = path.read_bytes()
    body = len(before) - 8 - int.from_bytes(before[-8:-4], "little")
    # The footer stays where it says it is: what is cut off is replaced, what is too much is cut.
    pages = mutated(before[4:body], drawn).ljust(body - 4, b"\0")[: body - 4]
    path.write_bytes(before[:4] + pages + before[body:])
    t.append(file)
    return path, path.read_bytes() != before


def _codec(drawn: random.Random) -> str:
    return drawn.choice(("null", "null", "deflate", "snappy", "zstandard"))


def _manifest(t: Maker, drawn: random.Random) -> tuple[Path, bool]:
    made = t.manifest(_data(t, drawn), codec=_codec(drawn))
    path = _path(made, "manifest_path")
    changed = _damage(path, drawn)
    t.snapshot(made)
    return path, changed


def _manifest_list(t: Maker, drawn: random.Random) -> tuple[Path, bool]:
    t.snapshot(t.manifest(_data(t, drawn)), codec=_codec(drawn))
    path = _path(t.snapshots[-1], "manifest-list")
    return path, _damage(path, drawn)


def _with_deletes(t: Maker, data: File, deletes: File, drawn: random.Random) -> tuple[Path, bool]:
    path = _path(deletes)
    changed = _damage(path, drawn)
    old = t.manifest(data)
    t.snapshot(old)
    t.snapshot(old, t.manifest(_resized(deletes, drawn), content=1))
    return path, changed


def _positions(t: Maker, drawn: random.Random) -> tuple[Path, bool]:
    data = _data(t, drawn)
    return _with_deletes(t, data, t.position_deletes([(data, at) for at in range(0, ROWS, 3)]), drawn)


def _equality(t: Maker, drawn: random.Random) -> tuple[Path, bool]:
    keys = pa.table({"id": pa.array(range(0, ROWS, 3), pa.int64())})
    return _with_deletes(t, _data(t, drawn), t.equality_deletes(keys, [1]), drawn)


def _puffin(t: Maker, drawn: random.Random) -> tuple[Path, bool]:
    t.version = 3
    data = _data(t, drawn)
    [vector] = t.vectors((data, range(0, ROWS, 3)))
    return _with_deletes(t, data, vector, drawn)


def _written(t: Maker) -> str:
    """Write the metadata file; the table has a UUID of its own, by which results are told apart."""
    return t.write(table_uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, str(t.folder))))


def _metadata(t: Maker, drawn: random.Random) -> tuple[Path, bool]:
    t.append(_data(t, drawn))
    path = _path({"file_path": _written(t)})
    return path, _damage(path, drawn)


@attrs.frozen
class Kind:
    """A kind of files.

    Attributes:
        build: Makes a table with a damaged file of the kind; returns the file, and whether it was changed.
        deletes: Whether every third row is deleted.
        guarded: Whether the format has checksums, so that there are the right rows or none.
        narrows: Whether other damage than a refused one can only leave rows out, or bring deleted ones back.
    """

    build: Build
    deletes: bool = False
    guarded: bool = False
    narrows: bool = True


KINDS = {
    "footer": Kind(_footer, narrows=False),
    "page": Kind(_page, narrows=False),
    "manifest": Kind(_manifest),
    "manifest_list": Kind(_manifest_list),
    "position_deletes": Kind(_positions, deletes=True),
    "equality_deletes": Kind(_equality, deletes=True),
    "puffin": Kind(_puffin, deletes=True, guarded=True),
    "metadata": Kind(_metadata, narrows=False),
}


def make_cases(warehouse: Path, kind: str, seeds: Iterable[int]) -> list[Case]:
    """Make a table for each seed, all in the namespace ``cases`` of the warehouse's catalog."""
    made = []
    for seed in seeds:
        name = f"{kind}_{seed}"
        t = Maker(warehouse / "cases" / name)
        file, changed = KINDS[kind].build(t, random.Random(f"{kind} {seed}"))
        made.append(Case(name, file, t.location or _written(t), changed))
    with sqlite3.connect(warehouse / "catalog.db") as catalog:
        rows = [("strata", "cases", one.name, one.metadata) for one in made]
        catalog.executemany(
            "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location)"
            " VALUES (?, ?, ?, ?)",
            rows,
        )
    catalog.close()
    return made


def right_rows(kind: str) -> list[dict[str, object]]:
    """Return the rows of an undamaged table of a kind."""
    rows = numbers_and_texts().to_pylist()
    return [row for row in rows if not KINDS[kind].deletes or row["id"] % 3]
