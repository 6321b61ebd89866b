"""The shard: stored segments come back, damage is a miss, the budget holds, a restart loses nothing."""

import errno
import io
import os
import shutil
import stat
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from strata.cache import CacheShard, Columns, Damaged, Pack, PackedSegment, Segment, SegmentKey, extend
from strata.cache import packs as packs_module
from strata.tables.read.ipc import EOS, encode, schema_message

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.large_string()), ("s", pa.struct([("a", pa.int32())]))])
FIELDS = ((1, "long"), (2, "string"), (3, "struct<4: a: int>"))
COLUMNS = Columns(FIELDS, SCHEMA)
BUDGET = 10_000_000


def rows(start: int, count: int = 100) -> pa.RecordBatch:
    ids = list(range(start, start + count))
    return pa.record_batch([ids, [f"n{i}" for i in ids], [{"a": i % 7} for i in ids]], schema=SCHEMA)


def crc(parts) -> int:
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return found


def store(
    shard: CacheShard, *numbers: int, columns: Columns = COLUMNS, file: str = "f", count: int = 100
) -> Pack:
    """Install a pack with a segment for each number."""
    writer = shard.begin_pack(columns)
    wanted = [SCHEMA.names[FIELDS.index(field)] for field in columns.fields]
    for number in numbers:
        encoded = encode([rows(number * 1000, count).select(wanted)])
        writer.append(SegmentKey(file, number), encoded, crc(encoded.parts))
    pack = writer.commit()
    shard.remove_files(shard.install(pack, shard.generation))
    return pack


def find(shard: CacheShard, number: int, fields=FIELDS, file: str = "f") -> Segment | None:
    return shard.lookup(SegmentKey(file, number), fields)


def read(shard: CacheShard, number: int, fields=FIELDS, schema: pa.Schema = SCHEMA):
    found = find(shard, number, fields)
    assert found is not None
    return shard.read(found, fields, schema)


@pytest.fixture
def shard(tmp_path: Path) -> CacheShard:
    return CacheShard.open(tmp_path / "shard", budget_bytes=BUDGET)


def reopened(tmp_path: Path, budget: int = BUDGET) -> CacheShard:
    return CacheShard.open(tmp_path / "shard", budget_bytes=budget)


def test_what_was_stored_comes_back(shard: CacheShard) -> None:
    """Stored segments come back as batches and as identical bytes."""
    store(shard, 0, 1)

    assert [rows(0)] == read(shard, 0)
    assert [rows(1000)] == read(shard, 1)
    assert encode([rows(1000)]).to_bytes() == shard.read_raw(find(shard, 1))
    assert None is find(shard, 2)
    assert None is find(shard, 0, file="g")


def test_a_wider_segment_serves_fewer_columns_in_any_order_and_under_new_names(shard: CacheShard) -> None:
    """A segment with all requested columns is a hit; a renamed column is the same column."""
    store(shard, 0)
    schema = pa.schema([("strukt", SCHEMA.field("s").type), ("ident", pa.int64())])

    [found] = read(shard, 0, (FIELDS[2], FIELDS[0]), schema)

    assert schema == found.schema
    assert rows(0)["id"] == found["ident"]
    assert rows(0)["s"] == found["strukt"]


def test_the_narrowest_covering_segment_is_read(shard: CacheShard) -> None:
    """Fewer bytes for the same columns."""
    narrow = store(shard, 0, columns=Columns(FIELDS[:1], pa.schema([SCHEMA.field(0)])))
    store(shard, 1)
    wide = store(
        shard, 0, columns=Columns(FIELDS[:2], pa.schema([SCHEMA.field(0), SCHEMA.field(1)])), file="g"
    )

    assert narrow.path == find(shard, 0, FIELDS[:1]).path
    assert wide.path == find(shard, 0, FIELDS[:1], file="g").path


def test_no_columns_keep_their_rows(shard: CacheShard) -> None:
    """`columns: []` of a segment with columns keeps its number of rows."""
    store(shard, 0)

    assert [100] == [batch.num_rows for batch in read(shard, 0, (), pa.schema([]))]


def test_a_column_of_another_type_is_a_miss(shard: CacheShard) -> None:
    """A promoted column is not the cached one."""
    store(shard, 0)

    assert None is find(shard, 0, ((1, "int"),))


def damage_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage", [damage_byte, lambda path: os.truncate(path, 100), Path.unlink], ids=["flipped", "cut", "gone"]
)
def test_a_damaged_segment_is_a_miss_and_is_removed(shard: CacheShard, tmp_path: Path, damage) -> None:
    """Damaged rows are never returned."""
    pack = store(shard, 0)
    damage(pack.path)

    found = find(shard, 0)
    assert isinstance(shard.read(found, FIELDS, SCHEMA), Damaged)
    assert isinstance(shard.read_raw(found), Damaged)
    shard.remove_files(shard.forget(found))
    assert None is find(shard, 0)
    assert [] == list((tmp_path / "shard").iterdir())
    assert 1 == shard.stats().damaged


def test_the_budget_is_never_exceeded_and_the_unused_go_first(shard: CacheShard, tmp_path: Path) -> None:
    """Bytes are measured on disk, sidecars included."""
    for number in range(4):
        store(shard, number)
    budget = shard.stats().bytes + 10
    shard.set_budget(budget)
    assert find(shard, 0) is not None  # used just now
    store(shard, 4)

    assert [True, False, True, True, True] == [find(shard, number) is not None for number in range(5)]
    on_disk = sum(path.stat().st_size for path in (tmp_path / "shard").iterdir())
    assert on_disk == shard.stats().bytes <= budget
    assert 1 == shard.stats().evictions


def test_a_budget_is_filled_to_the_last_byte(shard: CacheShard, tmp_path: Path) -> None:
    """A full budget evicts nothing; one byte less evicts one pack; raised again, a pack fits."""
    for number in range(3):
        store(shard, number)
    size = shard.stats().bytes
    assert [] == shard.set_budget(size)
    assert 3 == sum(find(shard, number) is not None for number in range(3))
    shard.remove_files(shard.set_budget(size - 1))
    assert (2, 1) == (shard.stats().segments, shard.stats().evictions)
    assert size > sum(path.stat().st_size for path in (tmp_path / "shard").iterdir())
    assert [] == shard.set_budget(2 * size)
    store(shard, 3)
    assert (3, 1) == (shard.stats().segments, shard.stats().evictions)


def test_one_large_scan_does_not_flush_the_rest(shard: CacheShard, tmp_path: Path) -> None:
    """A pack over half the budget is not installed."""
    size = store(shard, 0).size
    shard.set_budget(size * 4)
    store(shard, *range(1, 6))

    assert find(shard, 0) is not None
    assert None is find(shard, 1)
    assert 2 == len(list((tmp_path / "shard").iterdir()))


def test_a_newer_segment_supersedes_and_dead_packs_are_removed(shard: CacheShard, tmp_path: Path) -> None:
    """A row group is not stored twice."""
    store(shard, 0)
    newer = store(shard, 0)

    assert newer.path == find(shard, 0).path
    assert {newer.path, packs_module.sidecar_of(newer.path)} == set((tmp_path / "shard").iterdir())
    assert newer.size == shard.stats().bytes


def test_a_restart_forgets_nothing(
    shard: CacheShard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contents and recency survive."""
    size = store(shard, 0).size
    store(shard, 1)
    store(shard, 2)
    find(shard, 0)
    monkeypatch.setattr("strata.cache.shard.TOUCH_EVERY", 1)
    shard.note_used(shard.take_used())

    again = reopened(tmp_path, budget=size * 3)
    assert [rows(0)] == read(again, 0)
    again = reopened(tmp_path, budget=size * 2 + size // 2)
    assert [True, False, True] == [find(again, number) is not None for number in range(3)]


def test_a_pack_begun_before_a_clear_is_not_installed(shard: CacheShard, tmp_path: Path) -> None:
    """A scan begun before a clear adds nothing after it."""
    generation = shard.generation
    writer = shard.begin_pack(COLUMNS)
    encoded = encode([rows(0)])
    writer.append(SegmentKey("f", 0), encoded, crc(encoded.parts))
    shard.remove_files(shard.clear())
    shard.remove_files(shard.install(writer.commit(), generation))

    assert None is find(shard, 0)
    assert [] == list((tmp_path / "shard").iterdir())


def blob(tmp_path: Path) -> tuple[Path, list[PackedSegment]]:
    """Write an artifact's file; returns it with the locations of its segments."""
    path = tmp_path / "blob.arrow"
    head, segments, body = schema_message(SCHEMA), [], b""
    for number in range(3):
        encoded = encode([rows(number * 1000)])
        at = len(head) + len(body)
        segments.append(PackedSegment(SegmentKey("f", number), at, encoded.nbytes, crc(encoded.parts), 100))
        body += encoded.to_bytes()
    path.write_bytes(head + body + EOS)
    return path, segments


def test_a_blob_is_adopted_as_a_pack_and_each_outlives_the_other(shard: CacheShard, tmp_path: Path) -> None:
    """The file has two names: a cold scan writes each byte once."""
    path, segments = blob(tmp_path)
    pack = shard.adopt(path, COLUMNS, segments)
    assert path.stat().st_ino == pack.path.stat().st_ino
    shard.remove_files(shard.install(pack, shard.generation))
    path.unlink()
    assert [rows(2000)] == read(shard, 2)

    path, segments = blob(tmp_path)
    shard.remove_files(shard.install(shard.adopt(path, COLUMNS, segments), shard.generation))
    shard.remove_files(shard.clear())
    assert 300 == pa.ipc.open_stream(path.read_bytes()).read_all().num_rows


def test_a_blob_of_another_file_system_is_copied(shard: CacheShard, tmp_path: Path, monkeypatch) -> None:
    """Only its segments are copied, in slices."""

    def refuse(*_args: object) -> None:
        raise OSError(errno.EXDEV, "another device")

    monkeypatch.setattr(packs_module.os, "link", refuse)
    path, segments = blob(tmp_path)
    assert shard.adopt(path, COLUMNS, segments) is None
    writer = shard.begin_pack(COLUMNS)
    for segment in segments:
        for done in range(0, segment.length, 100):
            writer.copy(path, segment, done, min(100, segment.length - done))
    pack = writer.commit()
    shard.remove_files(shard.install(pack, shard.generation))

    assert pack.path.stat().st_size == sum(segment.length for segment in segments)
    assert [rows(1000)] == read(shard, 1)
    assert [rows(1000)] == read(reopened(tmp_path), 1)
    with pytest.raises(OSError, match="shorter than its segments"):
        shard.begin_pack(COLUMNS).copy(path, segments[-1], 0, 10**6)


def test_leftovers_are_swept_and_foreign_files_are_not(shard: CacheShard, tmp_path: Path) -> None:
    """No sidecar without data and no data without sidecar remains."""
    pack = store(shard, 0)
    torn, orphan, lost = store(shard, 1), store(shard, 2), store(shard, 3)
    os.truncate(packs_module.sidecar_of(torn.path), 20)
    packs_module.sidecar_of(orphan.path).unlink()
    lost.path.unlink()
    short = store(shard, 4)
    os.truncate(short.path, 10)
    shard.begin_pack(COLUMNS)
    (tmp_path / "shard" / "README").write_text("not ours")

    again = reopened(tmp_path)

    assert [True, False, False, False, False] == [find(again, number) is not None for number in range(5)]
    left = {path.name for path in (tmp_path / "shard").iterdir()}
    assert {"README", pack.path.name, packs_module.sidecar_of(pack.path).name} == left


def test_a_flipped_bit_in_a_sidecar_is_no_other_row_group(shard: CacheShard, tmp_path: Path) -> None:
    """Any flipped bit makes the pack a leftover, never a result under a wrong identity."""
    pack = store(shard, 0, count=1)
    sidecar = packs_module.sidecar_of(pack.path)
    whole, content = sidecar.read_bytes(), pack.path.read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        pack.path.write_bytes(content)
        sidecar.write_bytes(flipped)
        assert 0 == reopened(tmp_path).stats().segments


def test_a_sidecar_whose_column_names_are_no_text_is_no_pack(shard: CacheShard, tmp_path: Path) -> None:
    """With a valid checksum: fuzzing found that Arrow decodes names only on access."""
    pack = store(shard, 0)
    sidecar = packs_module.sidecar_of(pack.path)
    entry = sidecar.read_bytes()[4:]
    assert b"name" in entry
    entry = entry.replace(b"name", b"\x80ame")
    sidecar.write_bytes(zlib.crc32(entry).to_bytes(4, "big") + entry)

    again = reopened(tmp_path)
    assert None is find(again, 0)
    assert [] == list((tmp_path / "shard").iterdir())


def test_a_segment_written_in_parts_is_one_segment(shard: CacheShard) -> None:
    """A row group is written in slices; another segment cannot be written in between."""
    writer = shard.begin_pack(COLUMNS)
    checksum = 0
    for number in range(3):
        part = encode([rows(number * 100)])
        for piece in part.parts:
            checksum = zlib.crc32(piece, checksum)
        writer.append(SegmentKey("f", 0), part, checksum)
    other = encode([rows(900)])
    writer.append(SegmentKey("f", 1), other, crc(other.parts))
    pack = writer.commit()
    shard.remove_files(shard.install(pack, shard.generation))

    assert [rows(0), rows(100), rows(200)] == read(shard, 0)
    assert [rows(900)] == read(shard, 1)
    apart = [PackedSegment(SegmentKey("f", 0), 0, 10, 0, 1)]
    with pytest.raises(ValueError, match="must be adjacent"):
        extend(apart, PackedSegment(SegmentKey("f", 0), 20, 10, 0, 1))


def test_two_shards_never_see_each_other(tmp_path: Path) -> None:
    """Each tenant has its own directory."""
    one = CacheShard.open(tmp_path / "one", budget_bytes=BUDGET)
    two = CacheShard.open(tmp_path / "two", budget_bytes=BUDGET)
    store(one, 0)

    assert None is find(two, 0)
    shutil.copytree(tmp_path / "one", tmp_path / "three")
    assert find(CacheShard.open(tmp_path / "three", budget_bytes=BUDGET), 0) is not None


def test_a_pack_and_its_sidecar_have_their_names_only_when_their_bytes_are_on_disk(
    shard: CacheShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A past error: a file renamed before its bytes were synced was empty after a power cut."""
    synced: dict[int, int] = {}
    order: list[str] = []
    sync, rename = os.fsync, Path.rename

    def noting_sync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size
        order.append("directory" if stat.S_ISDIR(status.st_mode) else "sync")
        sync(descriptor)

    def noting_rename(self: Path, target: Path) -> Path:
        status = self.stat()
        assert status.st_size == synced.get(status.st_ino), f"{self.name} has bytes that are not on disk"
        order.append(f"rename {target.suffix}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noting_sync)
    monkeypatch.setattr(Path, "rename", noting_rename)
    store(shard, 0)
    assert ["sync", "rename .pack", "sync", "rename .index", "directory"] == order


def test_a_crash_at_any_file_operation_leaves_whole_packs_only(tmp_path: Path, monkeypatch) -> None:  # noqa: C901  # one enumeration
    """Each call that changes the disk fails in turn; a restart then finds only complete packs."""

    class Crash(BaseException):
        pass

    real = {name: getattr(os, name) for name in ("fsync", "writev", "write")}
    countdown = [0]

    def dying(name: str):
        def call(*args: object, **kwargs: object) -> object:
            countdown[0] -= 1
            if not countdown[0]:
                raise Crash
            return real[name](*args, **kwargs)

        return call

    for name in real:
        monkeypatch.setattr(os, name, dying(name))
    real_rename = Path.rename

    def rename(self: Path, target: Path) -> Path:
        countdown[0] -= 1
        if not countdown[0]:
            raise Crash
        return real_rename(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    crashes = 0
    for step in range(1, 40):
        countdown[0] = 0
        shard = CacheShard.open(tmp_path / f"s{step}", budget_bytes=BUDGET)
        store(shard, 0)
        countdown[0] = step
        try:
            store(shard, 1)
            whole = True
        except Crash:
            crashes += 1
            whole = False
        countdown[0] = 0
        again = CacheShard.open(tmp_path / f"s{step}", budget_bytes=BUDGET)
        assert [rows(0)] == read(again, 0)
        if find(again, 1) is not None:
            assert [rows(1000)] == read(again, 1)
        else:
            assert not whole
        assert not list((tmp_path / f"s{step}").glob("*.part"))
        if whole:
            break
    assert crashes >= 6
    assert whole


@pytest.mark.parametrize("kind", ["own file", "blob"])
def test_a_full_disk_leaves_no_pack_without_its_sidecar(
    shard: CacheShard, tmp_path: Path, monkeypatch, kind: str
) -> None:
    """Otherwise an adopted blob's second name would keep its bytes on disk after the blob is deleted."""
    before = (
        set((tmp_path / "shard").rglob("*")) if (tmp_path / "shard").exists() else set(tmp_path.rglob("*"))
    )
    path, segments = blob(tmp_path)
    writer = None
    if kind == "own file":
        writer = shard.begin_pack(COLUMNS)
        writer.append(SegmentKey("f", 0), encode([rows(0)]), 0)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        with pytest.raises(OSError, match="full"):
            shard.adopt(path, COLUMNS, segments) if writer is None else writer.commit()
    assert (
        set()
        == {left for left in tmp_path.rglob("*") if left.suffix in {".pack", ".index", ".part"}} - before
    )
    assert path.exists()


def test_what_is_read_once_pushes_out_nothing_that_was_read_again(
    shard: CacheShard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is read once, and also after a restart."""
    size = store(shard, 0).size
    assert find(shard, 0) is not None
    monkeypatch.setattr("strata.cache.shard.TOUCH_EVERY", 1)
    shard.note_used(shard.take_used())
    shard.set_budget(size * 4)
    for number in range(1, 40):
        store(shard, number)
    again = reopened(tmp_path, budget=size * 4)
    for number in range(40, 80):
        store(again, number)

    assert find(again, 0) is not None
    assert [False, True] == [find(again, number) is not None for number in (40, 79)]


def test_what_is_no_longer_read_makes_room_for_what_is(shard: CacheShard) -> None:
    """Protected packs are at most 3/4 of the budget; the least recently used turns probationary."""
    size = store(shard, 0).size
    shard.set_budget(size * 4 + size // 2)
    for number in range(8):
        store(shard, number)
        assert find(shard, number) is not None

    assert [False, False, False, False, True, True, True, True] == [
        find(shard, number) is not None for number in range(8)
    ]


def test_a_segment_that_is_cut_leaves_those_before_it(shard: CacheShard, tmp_path: Path) -> None:
    """A cut scan leaves complete row groups only."""
    writer = shard.begin_pack(COLUMNS)
    for number, parts in ((0, 1), (1, 2)):
        checksum = 0
        for part in range(parts):
            encoded = encode([rows(number * 1000 + part * 100)])
            for piece in encoded.parts:
                checksum = zlib.crc32(piece, checksum)
            writer.append(SegmentKey("f", number), encoded, checksum)

    assert writer.cut(SegmentKey("f", 1))
    shard.remove_files(shard.install(writer.commit(), shard.generation))

    assert [rows(0)] == read(shard, 0)
    assert None is find(shard, 1)
    assert [rows(0)] == read(reopened(tmp_path), 0)
    other = shard.begin_pack(COLUMNS)
    assert not other.cut(SegmentKey("f", 1))
    other.abort()


def test_a_shard_that_is_not_open_is_measured_and_trimmed(shard: CacheShard, tmp_path: Path) -> None:
    """Leftovers go first, then the least recently used packs, then the empty directory."""
    first = store(shard, 0)
    second = store(shard, 1)
    shard.begin_pack(COLUMNS)
    root = tmp_path / "shard"
    nbytes, moment = packs_module.measure(root)
    assert (first.size + second.size, packs_module.sidecar_of(second.path).stat().st_mtime_ns) == (
        nbytes,
        moment,
    )

    assert second.size == packs_module.trim(root, second.size)
    assert {second.path, packs_module.sidecar_of(second.path)} == set(root.iterdir())
    assert 0 == packs_module.trim(root, second.size - 1)
    assert not root.exists()
    assert ((0, 0), 0) == (packs_module.measure(root), packs_module.trim(root, 0))


@pytest.mark.parametrize("call", ["listdir", "stat", "open"])
def test_a_shortage_at_the_opening_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Without descriptors a shard is empty and takes nothing; read again, it has all that it had."""
    shard = reopened(tmp_path)
    store(shard, 0, 1)
    store(shard, 2)
    there = sorted((tmp_path / "shard").iterdir())

    def short(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(io if call == "open" else os, call, short)
        again = CacheShard.open(tmp_path / "shard", budget_bytes=BUDGET)
        with pytest.raises(OSError, match="open files"):
            again.read_disk()
    assert errno.EMFILE == again.failure.errno
    assert (None, 0, there) == (
        find(again, 0),
        again.most_of_one_scan,
        sorted((tmp_path / "shard").iterdir()),
    )

    assert [] == again.take(again.read_disk())
    assert None is again.failure
    assert [rows(0)] == read(again, 0)
    assert [rows(2000)] == read(again, 2)
    store(again, 3)
    assert [rows(3000)] == read(again, 3)


def test_a_file_that_cannot_be_removed_keeps_no_other_one(
    shard: CacheShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files are tried; the first error is returned, for who must know that the cache is not empty."""
    packs = [store(shard, number) for number in range(3)]
    real = os.unlink

    def unlink(path: Path, **kwargs: object) -> None:
        if Path(path).stem == packs[0].path.stem:
            raise OSError(errno.EACCES, "not permitted")
        real(path, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink)
        failure = shard.remove_files(shard.clear())
    assert errno.EACCES == failure.errno
    assert [True, False, False] == [pack.path.exists() for pack in packs]
    assert None is shard.remove_files([packs[0].path])
