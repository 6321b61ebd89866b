"""The metadata store on SQLite, on PostgreSQL and its twin in memory give the same answers to any sequence of calls."""

import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from memory_metadata import MemoryMetadataStore
from memory_registry import MemoryRegistry
from memory_retention import MemoryRetention
from postgres_kit import new_store

from strata.artifacts import STORE_DOWN, Act, BlobFacts, Cursor, NameOrder, SqlMetadataStore
from strata.artifacts.metadata.contract import ORDERS, SORTS
from strata.artifacts.registry.sql_registry import SqlRegistry
from strata.artifacts.retention.contract import Removed
from strata.artifacts.retention.sql_retention import SqlRetention
from strata.outcomes import RefusalError

TENANTS = st.sampled_from(["t", "T", "u"])
KEYS = st.sampled_from(["a" * 64, "b" * 64])
BUILDS = st.sampled_from([f"b{index}" for index in range(6)])
RESULT = "strata://artifact/" + "a" * 32 + "@v=1"
NAMES = st.sampled_from(["n", "N", "n/x", "n%", "n@a", "\N{SNOWMAN}"])


ALIASES = st.sampled_from(["a", "A", "b%"])
PEOPLE = st.sampled_from(["ana", "bob"])
ORDERS_OF_NAMES = st.builds(
    lambda name, who, others: NameOrder(name=name, act=act_of("t", who, "x"), others=others),
    NAMES, PEOPLE, st.booleans(),
)  # fmt: skip


def act_of(tenant: str, who: str, action: str) -> Act:
    return Act(tenant=tenant, principal=who, principal_tenant=tenant, action=action, request_id="r")


def of(order: NameOrder, tenant: str, action: str) -> NameOrder:
    return attrs.evolve(order, act=attrs.evolve(order.act, tenant=tenant, action=action))


ACT = Act(tenant="t", principal="p", principal_tenant="t", action="artifact.delete", request_id="r")


class Twins(RuleBasedStateMachine):
    """Every rule calls both stores, on clocks that show the same time."""

    def opened(self, now: Callable[[], float]) -> SqlMetadataStore:
        return SqlMetadataStore(self.directory / "m.db", now)

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        one, other = itertools.count(), itertools.count()
        # A clock so coarse that many calls happen at the same time.
        self.sql = self.opened(lambda: float(next(one) // 5))
        self.memory = MemoryMetadataStore(lambda: float(next(other) // 5))
        self.ends = (MemoryRetention(self.memory), SqlRetention(self.sql))
        self.registries = (MemoryRegistry(self.memory), SqlRegistry(self.sql))
        self.changed = False

    def both_end(self, call: str, *args: object, **kwargs: object) -> object:
        expected, found = (getattr(store, call)(*args, **kwargs) for store in self.ends)
        assert expected == found
        self.changed = True
        return found

    def both(self, call: str, *args: object, **kwargs: object) -> None:
        expected = getattr(self.memory, call)(*args, **kwargs)
        assert expected == getattr(self.sql, call)(*args, **kwargs)
        self.changed = True

    def both_know(self, call: str, *args: object, **kwargs: object) -> None:
        expected, found = (getattr(store, call)(*args, **kwargs) for store in self.registries)
        assert expected == found
        self.changed = True

    @rule(
        tenant=TENANTS, build=BUILDS, key=KEYS, query=KEYS, name=st.none() | NAMES, refresh=st.booleans(),
        first=st.sampled_from(["a", RESULT, RESULT + "a" * 300]),
    )  # fmt: skip
    def begin_build(
        self, tenant: str, build: str, key: str, query: str, *, name: str | None, first: str, refresh: bool
    ):
        self.both(
            "begin_build", tenant, build_id=build, provenance_hash=key, query_hash=query, transform_spec="{}",
            input_versions=[("b", "1"), (first, "2")], executor_ref="scan@v1", name=name, refresh=refresh,
        )  # fmt: skip

    @rule(tenant=TENANTS, build=BUILDS, size=st.integers(0, 3), order=st.none() | ORDERS_OF_NAMES)
    def finish_build(self, tenant: str, build: str, size: int, order: NameOrder | None) -> None:
        facts = BlobFacts(str(size) * 64, size, self.directory)
        names = () if order is None else (of(order, tenant, "name.set"),)
        self.both(
            "finish_build", tenant, build, facts=facts, row_count=size // 2, arrow_schema="s", names=names
        )

    @rule(tenant=TENANTS, build=BUILDS)
    def fail_build(self, tenant: str, build: str) -> None:
        self.both("fail_build", tenant, build, code="c", message="m")

    @rule(tenant=TENANTS, key=KEYS, version=st.integers(1, 3))
    def fail_version(self, tenant: str, key: str, version: int) -> None:
        self.both("fail_version", tenant, key[:32], version, code="gone")

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

    @rule(
        tenant=TENANTS,
        limit=st.integers(1, 4),
        place=st.none() | st.tuples(st.none() | st.integers(0, 3), KEYS, st.integers(1, 3)),
        state=st.sampled_from([None, "building", "ready", "failed"]),
        name_prefix=st.none() | NAMES | st.just(""),
        since=st.none() | st.integers(0, 6).map(float),
        sort=st.sampled_from(SORTS),
        order=st.sampled_from(ORDERS),
    )
    def list_summaries(self, tenant: str, place: tuple | None, sort: str, **question: object) -> None:
        if place is not None:
            value = place[0]
            if sort == "artifact_id":
                value = place[1][:32]
            elif sort == "created_at":
                value = float(value or 0)
            question["after"] = Cursor(value, place[1][:32], place[2])
        self.both("list_summaries", tenant, sort=sort, **question)

    @rule(tenant=TENANTS, prefix=NAMES | st.just(""), after=NAMES | st.just(""), limit=st.none() | st.just(2))
    def list_names(self, tenant: str, prefix: str, after: str, limit: int | None) -> None:
        self.both("list_names", tenant, prefix=prefix, after=after, limit=limit)

    @rule(
        tenant=TENANTS,
        uri=st.sampled_from(["a", RESULT, RESULT + "x"]),
        place=st.none() | st.tuples(st.integers(0, 5).map(float), KEYS, st.integers(1, 3)),
    )
    def list_dependents(self, tenant: str, uri: str, place: tuple | None) -> None:
        after = None if place is None else Cursor(place[0], place[1][:32], place[2])
        self.both("list_dependents", tenant, uri, after=after, limit=2)

    @rule(tenant=TENANTS, asked=st.lists(st.tuples(KEYS, st.integers(1, 3)), max_size=4, unique=True))
    def get_artifacts(self, tenant: str, asked: list[tuple[str, int]]) -> None:
        self.both("get_artifacts", tenant, [(key[:32], version) for key, version in asked])

    @rule(tenant=TENANTS, key=KEYS, version=st.integers(1, 3))
    def remove(self, tenant: str, key: str, version: int) -> None:
        self.both_end("remove", tenant, key[:32], version, ACT)

    @rule(tenant=TENANTS, before=st.integers(0, 9).map(float), limit=st.integers(1, 3), late=st.booleans())
    def collect(self, tenant: str, before: float, limit: int, *, late: bool) -> None:
        found = self.both_end("unused", tenant, before=before, after=None, limit=limit)
        self.both_end("unused", tenant, before=before, after=found[0] if found else None, limit=limit)
        self.both_end("collect", tenant, found, before=before - late, act=ACT)

    @rule(tenant=TENANTS, key=KEYS, version=st.integers(1, 3), at=st.integers(0, 9).map(float))
    def note_uses(self, tenant: str, key: str, version: int, at: float) -> None:
        self.both_end("note_uses", tenant, {(key[:32], version): at})

    @rule(tenant=TENANTS, order=ORDERS_OF_NAMES, key=KEYS, version=st.integers(1, 3))
    def set_name(self, tenant: str, order: NameOrder, key: str, version: int) -> None:
        self.both_know("set_name", tenant, of(order, tenant, "name.set"), (key[:32], version))

    @rule(tenant=TENANTS, order=ORDERS_OF_NAMES)
    def drop_name(self, tenant: str, order: NameOrder) -> None:
        self.both_know("drop_name", tenant, of(order, tenant, "name.delete"))

    @rule(tenant=TENANTS, order=ORDERS_OF_NAMES, alias=ALIASES, key=KEYS, version=st.integers(1, 2))
    def set_alias(self, tenant: str, order: NameOrder, alias: str, key: str, version: int) -> None:
        self.both_know("set_alias", tenant, of(order, tenant, "alias.set"), alias, (key[:32], version))

    @rule(tenant=TENANTS, order=ORDERS_OF_NAMES, alias=ALIASES)
    def drop_alias(self, tenant: str, order: NameOrder, alias: str) -> None:
        self.both_know("drop_alias", tenant, of(order, tenant, "alias.delete"), alias)

    @rule(
        tenant=TENANTS, order=ORDERS_OF_NAMES, alias=ALIASES,
        wanted=st.none() | st.tuples(KEYS.map(lambda key: key[:32]), st.integers(1, 2)),
    )  # fmt: skip
    def request_change(self, tenant: str, order: NameOrder, alias: str, wanted: tuple | None) -> None:
        self.both_know("request_change", tenant, of(order, tenant, "alias.request_set"), alias, wanted)

    @rule(tenant=TENANTS, name=NAMES, alias=ALIASES, who=PEOPLE, own=st.booleans(), approve=st.booleans())
    def decide(self, tenant: str, name: str, alias: str, who: str, *, own: bool, approve: bool) -> None:
        if approve:
            self.both_know("approve", tenant, name, alias, act_of(tenant, who, "alias.approved"), own=own)
        else:
            self.both_know("reject", tenant, name, alias, act_of(tenant, who, "alias.rejected"))

    @rule(tenant=TENANTS, key=KEYS, version=st.integers(1, 2), tag=ALIASES, value=st.none() | ALIASES)
    def set_tag(self, tenant: str, key: str, version: int, tag: str, value: str | None) -> None:
        target = (key[:32], version)
        if value is None:
            self.both_know("drop_tag", tenant, target, tag, act_of(tenant, "p", "tag.delete"))
        else:
            self.both_know("set_tag", tenant, target, tag, value, act_of(tenant, "p", "tag.set"))
        self.both_know("list_tagged", tenant, tag, value, after=None, limit=9)
        self.both_know("list_tagged", tenant, tag, None, after=target, limit=1)

    @rule(tenant=TENANTS, key=KEYS, version=st.integers(1, 2), reason=ALIASES, keep=st.booleans())
    def pin(self, tenant: str, key: str, version: int, reason: str, *, keep: bool) -> None:
        target = (key[:32], version)
        act = act_of(tenant, "p", "artifact.pin" if keep else "artifact.unpin")
        self.both_know("pin" if keep else "unpin", tenant, target, reason, act)

    @rule(
        tenant=TENANTS, name=st.none() | NAMES, artifact_id=st.none() | KEYS.map(lambda key: key[:32]),
        place=st.sampled_from([{}, {"before": 5}, {"since": 3}, {"since": 0}]), limit=st.integers(1, 9),
    )  # fmt: skip
    def list_events(self, tenant: str, place: dict, **question: object) -> None:
        self.both_know("list_events", tenant, **question, **place)

    @rule(tenant=TENANTS, before=st.integers(0, 9).map(float))
    def remove_bytes(self, tenant: str, before: float) -> None:
        for removed in self.both_end("pending", 2, tenant=tenant):
            assert isinstance(removed, Removed)
            self.both_end("pending", 2, after=removed)
            self.both_end("bytes_gone", removed)
        self.both_end("forget_removed", tenant, before=before, limit=1000)

    @invariant()
    @precondition(lambda self: self.changed)
    def know_the_same(self) -> None:
        for tenant in ("t", "T", "u", "v"):
            for key in ("a" * 64, "b" * 64):
                self.both("find_ready", tenant, key)
                self.both("find_latest_by_query", tenant, key)
                self.both("get_artifact", tenant, key[:32], 1)
                self.both_end("kept", tenant, key[:32], 1)
            self.both("get_build", tenant, "b0")
            self.both("stats", tenant)
            self.both_end("usage", tenant)
            for digit in "0123":
                self.both_end("is_needed", tenant, digit * 64)
            self.both("list_names", tenant)
            self.both("list_names", tenant, prefix="n", after="n", limit=3, targets=False)
            self.both_know("list_pending", tenant, after=None, limit=99)
            self.both_know("list_pending", tenant, after=("n", "a"), limit=1)
            self.both_know("aliases_of", tenant, ["n", "N", "n/x", "n%", "n@a"])
            targets = [(key * 32, version) for key in "ab" for version in (1, 2)]
            self.both_know("tags_of", tenant, targets)
            self.both_know("names_of", tenant, targets)
            self.points_nowhere(tenant)
            self.both("list_artifacts", tenant, limit=100, offset=0)
            self.both("list_audit", tenant=tenant, before=3, limit=2)
        self.both("list_audit", tenant=None, before=None, limit=100)
        self.both("list_tenants", after="T", limit=2)
        self.both_end("pending", 100)
        named = [(tenant, one) for tenant in ("t", "T", "u") for one in self.sql.list_names(tenant)]
        assert [] == [one for _, one in named if one.target is None]
        plain = [one for tenant in ("t", "T", "u") for one in self.sql.list_names(tenant, targets=False)]
        assert [attrs.evolve(one, target=None) for _, one in named] == plain
        self.changed = False

    def points_nowhere(self, tenant: str) -> None:
        """Check that nothing that is named, aliased, pinned or asked for was collected, and URIs are one thing's."""
        registry = self.registries[1]
        names = [one.name for one in self.sql.list_names(tenant)]
        aliases = registry.aliases_of(tenant, [*names, "n", "N", "n/x", "n%", "n@a"])
        for one in (one for found in aliases.values() for one in found):
            assert self.sql.get_artifact(tenant, one.artifact_id, one.version) is not None
            assert f"{one.name}@{one.alias}" not in names
        assert all(target is not None for _, target in registry.list_pending(tenant, after=None, limit=99))

    def teardown(self) -> None:
        self.sql.close()
        shutil.rmtree(self.directory)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


@pytest.mark.slow
def test_twins_on_postgresql(postgresql: str) -> None:
    """The same sequences of calls give the same answers on PostgreSQL."""

    class OnPostgresql(Twins):
        def opened(self, now: Callable[[], float]) -> SqlMetadataStore:
            return new_store(postgresql, now)

    run_state_machine_as_test(
        OnPostgresql, settings=settings(max_examples=5, stateful_step_count=25, deadline=None)
    )


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
