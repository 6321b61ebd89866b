"""The shard compared with a model, through any order of operations."""

import os
import shutil
import tempfile
import zlib
from pathlib import Path

import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from strata.cache import CacheShard, Columns, Damaged, SegmentKey
from strata.tables.read.ipc import encode

ALL = ((1, "long"), (2, "long"), (3, "long"))
KEYS = st.builds(SegmentKey, st.sampled_from("fg"), st.integers(0, 3))
SUBSETS = st.permutations(ALL).flatmap(lambda p: st.integers(1, 3).map(lambda n: tuple(p[:n])))


def schema_of(fields) -> pa.Schema:
    return pa.schema([(f"c{field_id}", pa.int64()) for field_id, _ in fields])


def rows_of(key: SegmentKey, fields, salt: int) -> pa.RecordBatch:
    """Return a row group's rows as its key decides them, without ``salt``."""
    base = hash((key.file_key, key.row_group)) % 1000
    arrays = [pa.array([base + field_id * 10 + i for i in range(5)], pa.int64()) for field_id, _ in fields]
    assert salt >= 0
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(fields))


class Shard(RuleBasedStateMachine):
    """Invariants: a hit returns the row group's own rows, and the budget holds."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.budget = 8000
        self.shard = CacheShard.open(self.root, budget_bytes=self.budget)

    def teardown(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=3, unique=True), fields=SUBSETS)
    def install(self, keys, fields) -> None:
        writer = self.shard.begin_pack(Columns(fields, schema_of(fields)))
        for key in keys:
            encoded = encode([rows_of(key, fields, 0)])
            crc = 0
            for part in encoded.parts:
                crc = zlib.crc32(part, crc)
            writer.append(key, encoded, crc)
        pack = writer.commit()
        kept = pack.size <= self.shard.most_of_one_scan
        self.shard.remove_files(self.shard.install(pack, self.shard.generation))
        if kept:
            assert all(self.shard.lookup(key, fields) is not None for key in keys)

    @rule(key=KEYS, fields=SUBSETS)
    def look_up(self, key, fields) -> None:
        found = self.shard.lookup(key, fields)
        if found is None:
            return
        assert set(fields) <= set(found.fields)
        read = self.shard.read(found, fields, schema_of(fields))
        if isinstance(read, Damaged):
            self.shard.remove_files(self.shard.forget(found))
        else:
            assert [rows_of(key, fields, 1)] == read

    @rule(
        which=st.integers(0, 10**6), where=st.integers(0, 10**6), how=st.sampled_from(["cut", "gone", "flip"])
    )
    def damage(self, which, where, how) -> None:
        # File names are random, so files are chosen by the order of their contents.
        files = sorted(self.root.iterdir(), key=lambda path: (path.suffix, path.read_bytes()))
        if files:
            path = files[which % len(files)]
            content = bytearray(path.read_bytes())
            if how == "gone":
                path.unlink()
            elif how == "cut" or not content:
                os.truncate(path, len(content) // 2)
            else:
                content[where % len(content)] ^= 0x40
                path.write_bytes(content)

    @rule()
    def reopen(self) -> None:
        self.shard = CacheShard.open(self.root, budget_bytes=self.budget)

    @rule(budget=st.sampled_from([0, 2000, 8000, 20000]))
    def change_budget(self, budget) -> None:
        self.budget = budget
        self.shard.remove_files(self.shard.set_budget(budget))

    @rule()
    def clear(self) -> None:
        self.shard.remove_files(self.shard.clear())
        assert 0 == self.shard.stats().bytes == self.shard.stats().segments

    @invariant()
    def budget_holds(self) -> None:
        if hasattr(self, "shard"):
            assert self.shard.stats().bytes <= self.budget


TestShard = Shard.TestCase
TestShard.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
