"""The contract of a metadata store, tested on SQLite, on PostgreSQL and on the twin in memory.

Versions are never shared, states only go forward, and tenants are separate.
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from memory_metadata import MemoryMetadataStore
from memory_registry import MemoryRegistry
from postgres_kit import new_store

from strata.artifacts import (
    Act,
    ArtifactRecord,
    ArtifactState,
    BlobFacts,
    MetadataStore,
    NameOrder,
    SqlMetadataStore,
)
from strata.artifacts.metadata.contract import NOT_RUNNING
from strata.artifacts.metadata.records import PAGE_BYTES
from strata.artifacts.registry.contract import RegistryStore
from strata.artifacts.registry.sql_registry import SqlRegistry
from strata.outcomes import Reason, Refused

FACTS = BlobFacts("a" * 64, 10, Path("x"))

NAMES: dict[tuple[int, str, str], str] = {}
"""Names that builds are to get as they become ready, by store, tenant and build."""


def name_order(name: str, tenant: str = "t", principal: str = "ana", *, others: bool = False) -> NameOrder:
    act = Act(tenant=tenant, principal=principal, principal_tenant=tenant, action="name.set", request_id="r")
    return NameOrder(name=name, act=act, others=others)


def registry_of(store: MetadataStore) -> RegistryStore:
    return SqlRegistry(store) if isinstance(store, SqlMetadataStore) else MemoryRegistry(store)


def set_name(store: MetadataStore, tenant: str, name: str, *target: object) -> object:
    return registry_of(store).set_name(tenant, name_order(name, tenant), target)


@pytest.fixture(params=["sqlite", "memory", pytest.param("postgresql", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MetadataStore]:
    clock = itertools.count(1000)

    def now() -> float:
        return float(next(clock))

    found: MetadataStore
    if request.param == "memory":
        found = MemoryMetadataStore(now)
    elif request.param == "sqlite":
        found = SqlMetadataStore(tmp_path / "metadata.db", now)
    else:
        found = new_store(request.getfixturevalue("postgresql"), now)
    yield found
    found.close()


def begin(
    store: MetadataStore,
    build: str,
    key: str = "k",
    *,
    tenant: str = "t",
    name: str | None = None,
    query: str = "q",
    refresh: bool = False,
    transform: str = "{}",
):
    if name is not None:
        NAMES[id(store), tenant, build] = name
    return store.begin_build(
        tenant,
        build_id=build,
        provenance_hash=key * 64,
        query_hash=query * 64,
        transform_spec=transform,
        input_versions=[("uri", key)],
        executor_ref="scan@v1",
        name=name,
        refresh=refresh,
    )


def finish(store: MetadataStore, build: str, tenant: str = "t") -> ArtifactRecord | Refused:
    name = NAMES.pop((id(store), tenant, build), None)
    names = () if name is None else (name_order(name, tenant),)
    return store.finish_build(tenant, build, facts=FACTS, row_count=3, arrow_schema="id: int64", names=names)


def test_a_build_becomes_a_ready_artifact(store: MetadataStore) -> None:
    """The artifact has the facts of its blob."""
    record = begin(store, "b1")
    assert (1, ArtifactState.BUILDING) == (record.version, record.state)
    assert None is store.find_ready("t", "k" * 64)

    ready = finish(store, "b1")

    assert isinstance(ready, ArtifactRecord)
    assert (ArtifactState.READY, 3, 10, "a" * 64) == (
        ready.state,
        ready.row_count,
        ready.byte_size,
        ready.content_sha256,
    )
    assert ready == store.find_ready("t", "k" * 64) == store.get_artifact("t", ready.artifact_id, 1)
    assert ArtifactState.READY is store.get_build("t", "b1").state
    assert {"uri": "k"} == ready.inputs


def test_concurrent_refreshes_never_share_a_version(store: MetadataStore) -> None:
    """A past error: concurrent refreshes raced for one version number."""
    with ThreadPoolExecutor(8) as threads:
        records = list(threads.map(lambda i: begin(store, f"b{i}", refresh=True), range(40)))

    assert list(range(1, 41)) == sorted(record.version for record in records)
    assert 1 == len({record.artifact_id for record in records})


def test_equal_builds_at_the_same_time_are_one(store: MetadataStore) -> None:
    """One version is begun; the other calls return that build, with its build id."""
    with ThreadPoolExecutor(8) as threads:
        records = list(threads.map(lambda i: begin(store, f"b{i}"), range(24)))

    assert 1 == len(set(records))
    assert records[0] == store.get_build("t", records[0].build_id)
    assert {"building": 1} == store.stats("t").by_state


def test_a_build_noted_twice_is_one_build(store: MetadataStore) -> None:
    """A caller that missed the answer may repeat the call, even after the build has ended."""
    first = begin(store, "b1", refresh=True)
    assert first == begin(store, "b1", refresh=True)
    finish(store, "b1")

    again = begin(store, "b1")
    assert (ArtifactState.READY, first.version) == (again.state, again.version)


@pytest.mark.parametrize("end", ["finish", "fail"])
def test_a_build_after_one_that_ended_has_a_version_of_its_own(store: MetadataStore, end: str) -> None:
    """An ended build, ready or failed, is never written to again."""
    begin(store, "b1")
    if end == "finish":
        finish(store, "b1")
    else:
        store.fail_build("t", "b1", code="x", message="")

    second = begin(store, "b2")
    assert ("b2", 2, ArtifactState.BUILDING) == (second.build_id, second.version, second.state)


def test_another_tenants_running_build_is_not_joined(store: MetadataStore) -> None:
    """Equal provenance and an equal build id join no build of another tenant."""
    begin(store, "b1", tenant="u")
    store.fail_build("u", "b1", code="x", message="")

    assert ("b2", 1) == ((mine := begin(store, "b2")).build_id, mine.version)
    assert ArtifactState.BUILDING is begin(store, "b1", key="l").state


def test_the_newest_ready_version_is_found(store: MetadataStore) -> None:
    """The newest version is skipped while it is not ready."""
    for build in ("b1", "b2", "b3"):
        begin(store, build, refresh=True)
    finish(store, "b2")
    finish(store, "b1")

    assert 2 == store.find_ready("t", "k" * 64).version


def test_an_ended_build_stays_ended(store: MetadataStore) -> None:
    """Ready after failed, failed after ready, and ready twice are refused."""
    begin(store, "b1")
    begin(store, "b2", refresh=True)
    store.fail_build("t", "b1", code="x", message="why")
    finish(store, "b2")

    assert isinstance(finish(store, "b1"), Refused)
    assert isinstance(finish(store, "b2"), Refused)
    store.fail_build("t", "b2", code="y", message="late")
    assert ("x", "why") == ((failed := store.get_build("t", "b1")).error_code, failed.error_message)
    assert (ArtifactState.READY, None) == ((ready := store.get_build("t", "b2")).state, ready.error_code)
    assert isinstance(finish(store, "nope"), Refused)


def test_tenants_never_meet(store: MetadataStore) -> None:
    """Equal provenance, names and build ids of two tenants are separate."""
    mine, theirs = begin(store, "b", name="n"), begin(store, "b", tenant="u", name="n")
    finish(store, "b")

    assert None is store.find_ready("u", "k" * 64)
    assert None is store.get_name("u", "n")
    assert ArtifactState.BUILDING is store.get_build("u", "b").state
    assert ArtifactState.BUILDING is store.get_artifact("u", theirs.artifact_id, 1).state
    assert (1, {"ready": 1}) == ((stats := store.stats("t")).total_artifacts, stats.by_state)
    assert 1 == store.list_artifacts("u", limit=9, offset=0).total
    assert None is store.get_artifact("v", mine.artifact_id, 1)
    store.fail_version("u", mine.artifact_id, 1, code="gone")
    assert store.find_ready("t", "k" * 64) is not None


def test_a_name_is_set_when_its_build_is_ready(store: MetadataStore) -> None:
    """A name is not set before, and never by a failed build; names may contain slashes."""
    begin(store, "b1", name="a/b c")
    assert None is store.get_name("t", "a/b c")
    store.fail_build("t", "b1", code="x", message="")
    assert None is store.get_name("t", "a/b c")
    begin(store, "b2", name="a/b c")
    finish(store, "b2")
    assert 2 == store.get_name("t", "a/b c").version
    begin(store, "b3", key="o")
    other = finish(store, "b3")
    set_name(store, "t", "a/b c", other.artifact_id, 1)
    assert (other.artifact_id, 1) == ((moved := store.get_name("t", "a/b c")).artifact_id, moved.version)
    assert ["a/b c"] == [name.name for name in store.list_names("t")]


def test_a_result_gets_all_of_its_names_as_it_becomes_ready(store: MetadataStore) -> None:
    """The names of all requests for a build are set together with its state, or none is."""
    begin(store, "b1")
    finished = {"facts": FACTS, "row_count": 3, "arrow_schema": "id: int64"}
    assert NOT_RUNNING == store.finish_build("t", "none", names=(name_order("lost"),), **finished)
    orders = [name_order(name) for name in ("second", "first", "third")]
    ready = store.finish_build("t", "b1", names=orders, **finished)
    assert [(name, ready.artifact_id, 1) for name in ("first", "second", "third")] == [
        (name.name, name.artifact_id, name.version) for name in store.list_names("t")
    ]


def test_equal_names_of_two_tenants_are_two_names(store: MetadataStore) -> None:
    """Moving one tenant's name does not move the other's."""
    for tenant, build, key in (("t", "b1", "m"), ("t", "b2", "o"), ("u", "b1", "k")):
        begin(store, build, key=key, tenant=tenant)
        finish(store, build, tenant)
    mine, other, theirs = ("m" * 32, 1), ("o" * 32, 1), ("k" * 32, 1)
    set_name(store, "t", "n", *mine)
    set_name(store, "u", "n", *theirs)
    set_name(store, "t", "n", *other)

    assert theirs == ((kept := store.get_name("u", "n")).artifact_id, kept.version)
    assert [other] == [(name.artifact_id, name.version) for name in store.list_names("t")]


def test_a_name_never_points_at_what_is_not_ready(store: MetadataStore) -> None:
    """A version that is missing, being built or another tenant's gets no name, and the old one stays."""
    begin(store, "b1", name="n")
    mine = finish(store, "b1")
    begin(store, "b2", key="o")
    begin(store, "b3", key="u", tenant="u")
    finish(store, "b3", "u")
    for target in ((mine.artifact_id, 2), ("o" * 32, 1), ("u" * 32, 1)):
        assert None is set_name(store, "t", "n", *target)
    assert (mine.artifact_id, 1) == ((kept := store.get_name("t", "n")).artifact_id, kept.version)


def test_what_a_dead_process_left_building_is_failed(store: MetadataStore) -> None:
    """A past error: builds stayed in `building` after a crash."""
    begin(store, "b1")
    begin(store, "b2", key="l")
    finish(store, "b2")

    assert 1 == store.sweep_interrupted()

    build = store.get_build("t", "b1")
    assert (ArtifactState.FAILED, "interrupted") == (build.state, build.error_code)
    assert {"failed": 1, "ready": 1} == store.stats("t").by_state
    assert 0 == store.sweep_interrupted()


def test_a_version_whose_bytes_are_lost_is_found_no_more(store: MetadataStore) -> None:
    """The version before it may be served; the lost version's build has the reason."""
    for build in ("b1", "b2"):
        begin(store, build)
        finish(store, build)
    newest = store.find_ready("t", "k" * 64)
    store.fail_version("t", newest.artifact_id, newest.version, code="blob_missing")

    assert 1 == store.find_ready("t", "k" * 64).version
    build = store.get_build("t", "b2")
    assert (ArtifactState.FAILED, "blob_missing") == (build.state, build.error_code)
    assert "lost" in build.error_message


def test_only_a_ready_version_can_be_lost(store: MetadataStore) -> None:
    """A version that is building or failed is left unchanged."""
    running = begin(store, "b1")
    store.fail_version("t", running.artifact_id, 1, code="blob_missing")
    assert ArtifactState.BUILDING is store.get_build("t", "b1").state
    assert ArtifactState.BUILDING is store.get_artifact("t", running.artifact_id, 1).state

    store.fail_build("t", "b1", code="mine", message="why")
    store.fail_version("t", running.artifact_id, 1, code="blob_missing")
    store.fail_version("t", "nothing", 1, code="blob_missing")
    assert "mine" == store.get_build("t", "b1").error_code


def test_the_latest_result_of_a_question_whatever_its_versions(store: MetadataStore) -> None:
    """This is the result that explain compares with."""
    for build, key in (("b1", "k"), ("b2", "l"), ("b3", "m")):
        begin(store, build, key=key)
    finish(store, "b1")
    finish(store, "b2")

    assert "l" * 64 == store.find_latest_by_query("t", "q" * 64).provenance_hash
    assert None is store.find_latest_by_query("t", "r" * 64)


def test_listing_pages_sorts_and_filters(store: MetadataStore) -> None:
    """Totals count all matching artifacts, not the page."""
    for index, key in enumerate("abcde"):
        begin(store, f"b{index}", key=key, name=f"n%{index}" if index % 2 else f"m{index}")
        finish(store, f"b{index}")
    begin(store, "b9", key="z")

    page = store.list_artifacts("t", limit=2, offset=1, order="asc", state="ready")
    assert (5, ["b", "c"]) == (page.total, [record.provenance_hash[0] for record in page.artifacts])
    newest = store.list_artifacts("t", limit=1, offset=0)
    assert "z" == newest.artifacts[0].provenance_hash[0]
    assert 2 == store.list_artifacts("t", limit=9, offset=0, name_prefix="n%").total
    assert 0 == store.list_artifacts("t", limit=9, offset=0, name_prefix="_").total
    since = newest.artifacts[0].created_at
    assert 1 == store.list_artifacts("t", limit=9, offset=0, since=since).total


def test_a_name_prefix_knows_case_and_no_wildcards(store: MetadataStore) -> None:
    """LIKE would ignore case and match wildcards in SQLite."""
    for index, name in enumerate(["Sales/eu", "sales/eu", "s_les", "s%les", "\N{SNOWMAN}man"]):
        begin(store, f"b{index}", key="abcde"[index], name=name)
        finish(store, f"b{index}")

    def found(prefix: str) -> list[str]:
        page = store.list_artifacts("t", limit=9, offset=0, name_prefix=prefix, order="asc")
        return [record.provenance_hash[0] for record in page.artifacts]

    assert (["a"], ["b"], ["c"], ["d"], ["e"]) == (
        found("Sa"), found("sa"), found("s_"), found("s%"), found("\N{SNOWMAN}")
    )  # fmt: skip
    assert list("abcde") == found("")


def test_what_is_not_known_yet_sorts_below_what_is(store: MetadataStore) -> None:
    """Ties have a fixed order, so pages never overlap."""
    for build, key in (("b1", "a"), ("b2", "b"), ("b3", "c")):
        begin(store, build, key=key)
    finish(store, "b2")

    for sort in ("row_count", "byte_size"):
        pages = [
            store.list_artifacts("t", limit=1, offset=at, sort=sort, order="asc").artifacts for at in range(4)
        ]
        assert ["a", "c", "b"] == [record.provenance_hash[0] for page in pages for record in page]


def test_a_page_ends_before_it_takes_too_much_memory(store: MetadataStore) -> None:
    """A page of large transforms is shorter than its limit, never empty, and the next one goes on from it."""
    large = "x" * (PAGE_BYTES // 3)
    for index, transform in enumerate([large] * 5 + ["y" * (2 * PAGE_BYTES), "{}"]):
        begin(store, f"b{index}", key="abcdefg"[index], transform=transform)
    pages, offset = [], 0
    while offset < 7:
        page = store.list_artifacts("t", limit=1000, offset=offset, order="asc")
        assert 7 == page.total
        pages.append("".join(record.provenance_hash[0] for record in page.artifacts))
        offset += len(page.artifacts)
    assert ["ab", "cd", "e", "f", "g"] == pages


@pytest.mark.parametrize(
    "wrong",
    [{"sort": "tenant"}, {"order": "up"}, {"state": "gone"}, {"since": float("nan")}, {"since": float("inf")},
     {"limit": 0}, {"limit": -1}, {"limit": 2**63}, {"offset": -1}, {"offset": 2**63}],
)  # fmt: skip
def test_a_listing_that_makes_no_sense_is_refused(store: MetadataStore, wrong: dict) -> None:
    """Nothing is ignored, and SQLite's "-1 means all" cannot exceed the page size."""
    refused = store.list_artifacts("t", **{"limit": 1, "offset": 0} | wrong)

    assert isinstance(refused, Refused)
    assert (Reason.BAD_REQUEST, ("query", next(iter(wrong)))) == (refused.reason, refused.loc)


def test_a_build_and_a_sweep_at_the_same_time_agree(store: MetadataStore) -> None:
    """A version and its build end together, both ready or both failed."""
    for index in range(30):
        begin(store, f"b{index}", key="0123456789abcdef"[index % 16], refresh=True)
    with ThreadPoolExecutor(4) as threads:
        swept = threads.submit(store.sweep_interrupted)
        ended = list(threads.map(lambda index: finish(store, f"b{index}"), range(30)))

    ready = [record for record in ended if isinstance(record, ArtifactRecord)]
    assert 30 == len(ready) + swept.result()
    for index in range(30):
        build = store.get_build("t", f"b{index}")
        assert build.state is store.get_artifact("t", build.artifact_id, build.version).state


def act(tenant: str | None, action: str = "limits.change") -> Act:
    return Act(
        tenant=tenant, principal="p", principal_tenant="ops", action=action, request_id="r", new='{"a":1}'
    )


def test_what_was_done_is_listed_the_latest_first_by_tenant(store: MetadataStore) -> None:
    """A tenant's audit log has its own records only, not those of the process."""
    noted = [store.add_audit(act(tenant)) for tenant in ("t", "u", None, "t")]

    assert [1, 2, 3, 4] == [record.id for record in noted]
    assert tuple(noted[::-1]) == store.list_audit(tenant=None, before=None, limit=9)
    assert (noted[3], noted[0]) == store.list_audit(tenant="t", before=None, limit=9)
    assert (noted[0],) == store.list_audit(tenant="t", before=4, limit=9)
    assert (noted[3],) == store.list_audit(tenant="t", before=2**64, limit=1)
    assert () == store.list_audit(tenant="v", before=None, limit=9)
    assert noted[0].at < noted[1].at


def test_a_page_of_the_audit_is_bounded_in_bytes(store: MetadataStore) -> None:
    """Large values end a page before its limit; one record is listed whatever it takes."""
    for size in (100, PAGE_BYTES // 2, PAGE_BYTES // 3, 2 * PAGE_BYTES, 100):
        store.add_audit(attrs.evolve(act("t"), old='"' + "x" * size + '"'))

    pages, before = [], None
    while page := store.list_audit(tenant="t", before=before, limit=9):
        pages.append([record.id for record in page])
        before = page[-1].id

    assert [[5], [4], [3, 2, 1]] == pages


def test_acts_at_the_same_time_are_all_noted(store: MetadataStore) -> None:
    """Each act gets an id of its own."""
    with ThreadPoolExecutor(8) as threads:
        noted = list(threads.map(lambda index: store.add_audit(act("t", f"a{index}")), range(40)))
    assert list(range(1, 41)) == sorted(record.id for record in noted)
    assert 40 == len({record.act.action for record in store.list_audit(tenant="t", before=None, limit=99)})


def test_tenants_are_those_who_have_had_results(store: MetadataStore) -> None:
    """Ids come in order, page by page; upper case first, as bytes sort."""
    for index, tenant in enumerate(["b", "a", "_default", "B", "a", "a-1"]):
        begin(store, f"b{index}", tenant=tenant, refresh=True)

    assert ("B", "_default", "a", "a-1", "b") == store.list_tenants(after="", limit=9)
    assert ("a", "a-1") == store.list_tenants(after="_default", limit=2)
    assert () == store.list_tenants(after="b", limit=1)


def test_the_secret_is_one_of_32_bytes(store: MetadataStore) -> None:
    """The same secret at every reading."""
    assert 32 == len(store.secret)
    assert store.secret == store.secret
