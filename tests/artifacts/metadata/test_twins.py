"""The metadata store on SQLite and its twin in memory give the same answers to any sequence of calls."""

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from memory_metadata import MemoryMetadataStore

from strata.artifacts import STORE_DOWN, Act, BlobFacts, SqlMetadataStore
from strata.artifacts.metadata.contract import ORDERS, SORTS
from strata.outcomes import RefusalError

TENANTS = st.sampled_from(["t", "T", "u"])
KEYS = st.sampled_from(["a" * 64, "b" * 64])
BUILDS = st.sampled_from([f"b{index}" for index in range(6)])
NAMES = st.sampled_from(["n", "N", "n/x", "n%", "\N{SNOWMAN}"])


class Twins(RuleBasedStateMachine):
    """Every rule calls both stores, on clocks that show the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        one, other = itertools.count(), itertools.count()
        # A clock so coarse that many calls happen at the same time.
        self.sql = SqlMetadataStore(self.directory / "m.db", lambda: float(next(one) // 5))
        self.memory = MemoryMetadataStore(lambda: float(next(other) // 5))
        self.changed = False

    def both(self, call: str, *args: object, **kwargs: object) -> None:
        expected = getattr(self.memory, call)(*args, **kwargs)
        assert expected == getattr(self.sql, call)(*args, **kwargs)
        self.changed = True

    @rule(tenant=TENANTS, build=BUILDS, key=KEYS, query=KEYS, name=st.none() | NAMES, refresh=st.booleans())
    def begin_build(self, tenant: str, build: str, key: str, query: str, name: str | None, *, refresh: bool):
        self.both(
            "begin_build", tenant, build_id=build, provenance_hash=key, query_hash=query, transform_spec="{}",
            input_versions=[("b", "1"), ("a", "2")], executor_ref="scan@v1", name=name, refresh=refresh,
        )  # fmt: skip

    @rule(tenant=TENANTS, build=BUILDS, size=st.integers(0, 3))
    def finish_build(self, tenant: str, build: str, size: int) -> None:
        facts = BlobFacts(str(size) * 64, size, self.directory)
        self.both("finish_build", tenant, build, facts=facts, row_count=size // 2, arrow_schema="s")

    @rule(tenant=TENANTS, build=BUILDS)
    def fail_build(self, tenant: str, build: str) -> None:
        self.both("fail_build", tenant, build, code="c", message="m")

    @rule(tenant=TENANTS, key=KEYS, version=st.integers(1, 3))
    def fail_version(self, tenant: str, key: str, version: int) -> None:
        self.both("fail_version", tenant, key[:32], version, code="gone")

    @rule(tenant=TENANTS, name=NAMES, key=KEYS, version=st.integers(1, 3))
    def set_name(self, tenant: str, name: str, key: str, version: int) -> None:
        self.both("set_name", tenant, name, key[:32], version)

    @rule(tenant=st.none() | TENANTS, principal=NAMES, old=st.none() | st.just("{}"))
    def add_audit(self, tenant: str | None, principal: str, old: str | None) -> None:
        act = Act(
            tenant=tenant, principal=principal, principal_tenant="t", action="x", request_id="r", old=old
        )
        self.both("add_audit", act)

    @rule()
    def sweep_interrupted(self) -> None:
        self.both("sweep_interrupted")

    @rule(
        tenant=TENANTS,
        limit=st.integers(0, 4),
        offset=st.integers(-1, 3),
        state=st.sampled_from([None, "pending", "building", "ready", "failed", "odd"]),
        name_prefix=st.none() | NAMES | st.just(""),
        since=st.none() | st.integers(0, 6).map(float),
        sort=st.sampled_from(SORTS),
        order=st.sampled_from(ORDERS),
    )
    def list_artifacts(self, tenant: str, **question: object) -> None:
        self.both("list_artifacts", tenant, **question)

    @invariant()
    @precondition(lambda self: self.changed)
    def know_the_same(self) -> None:
        for tenant in ("t", "T", "u", "v"):
            for key in ("a" * 64, "b" * 64):
                self.both("find_ready", tenant, key)
                self.both("find_latest_by_query", tenant, key)
                self.both("get_artifact", tenant, key[:32], 1)
            self.both("get_build", tenant, "b0")
            self.both("stats", tenant)
            self.both("list_names", tenant)
            self.both("list_artifacts", tenant, limit=100, offset=0)
            self.both("list_audit", tenant=tenant, before=3, limit=2)
        self.both("list_audit", tenant=None, before=None, limit=100)
        self.both("list_tenants", after="T", limit=2)
        self.changed = False

    def teardown(self) -> None:
        self.sql.close()
        shutil.rmtree(self.directory)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def test_the_twin_can_be_told_to_misbehave() -> None:
    """It can refuse as a store that does not answer, at a chosen call, with nothing changed."""
    down: set[str] = {"finish_build", "probe"}

    def before(call: str) -> None:
        if call in down:
            raise RefusalError(STORE_DOWN)

    store = MemoryMetadataStore(lambda: 0.0, before)
    store.begin_build(
        "t", build_id="b", provenance_hash="a" * 64, query_hash="q", transform_spec="{}", input_versions=[],
        executor_ref="s", name=None,
    )  # fmt: skip
    with pytest.raises(RefusalError):
        store.finish_build("t", "b", facts=BlobFacts("", 0, Path()), row_count=0, arrow_schema="")
    assert {"building": 1} == store.stats("t").by_state
    assert not store.probe()
    down.clear()
    assert store.probe()
