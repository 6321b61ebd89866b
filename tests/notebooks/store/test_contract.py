"""The contract of a store of notebooks, on SQLite, on PostgreSQL and on the twin in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa
from memory_notebooks import MemoryNotebookStore
from postgres_kit import new_store

from strata.artifacts import Act, SqlMetadataStore
from strata.artifacts.database.schema import audit
from strata.notebooks.model.notebook import Access
from strata.notebooks.store import contract, sql_store
from strata.notebooks.store.contract import Draft, NotebookRecord, NotebookStore, ResultRow, RevisionSummary
from strata.notebooks.store.sql_store import SqlNotebookStore
from strata.outcomes import Reason, Refused

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
on_engines = pytest.mark.parametrize("store", ENGINES, indirect=True)
"""For promises about threads and transactions, which the twin in memory has not."""


@pytest.fixture(params=["memory", *ENGINES])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotebookStore]:
    clock = itertools.count(1000)

    def now() -> float:
        return float(next(clock))

    if request.param == "memory":
        yield MemoryNotebookStore(now)
    elif request.param == "sqlite":
        metadata = SqlMetadataStore(tmp_path / "metadata.db", now)
        yield SqlNotebookStore(metadata.transactions, now)
        metadata.close()
    else:
        metadata = new_store(request.getfixturevalue("postgresql"), now)
        yield SqlNotebookStore(metadata.transactions, now)
        metadata.close()


def acts(store: NotebookStore) -> list[str]:
    """Return the lines of the audit: action, tenant and notebook."""
    if isinstance(store, MemoryNotebookStore):
        found = store.acts
    else:
        with store.transactions.reading() as connection:
            columns = [column for column in audit.c if column.name not in ("id", "at")]
            rows = connection.execute(sa.select(*columns).order_by(audit.c.id)).mappings()
            found = [Act(**row) for row in rows]
    return [f"{act.action} {act.tenant} {act.new} {act.principal}" for act in found]


def act(action: str, name: str, tenant: str = "t") -> Act:
    return Act(
        tenant=tenant, principal="ana", principal_tenant=tenant, action=action, request_id="r", new=name
    )


def draft(text: str = "{}", title: str = "Title", author: str = "ana") -> Draft:
    return Draft(title=title, author=author, content=text, analysis="{}")


def create(
    store: NotebookStore, name: str = "n", tenant: str = "t", text: str = "{}"
) -> NotebookRecord | Refused:
    return store.create(tenant, name, Access.TENANT, draft(text), act("create", name, tenant))


def edit(store: NotebookStore, base: int, text: str = "{}", name: str = "n") -> NotebookRecord | Refused:
    return store.add_revision("t", name, base, draft(text, "Other", "bob"), act("edit", name))


def test_a_notebook_has_one_revision_after_another(store: NotebookStore) -> None:
    """A revision follows the latest one; title, times and authors are kept."""
    made = create(store, text="one")
    assert made == NotebookRecord(
        name="n", title="Title", owner="ana", access=Access.TENANT, revision=1, created_at=1000.0, updated_at=1000.0
    )  # fmt: skip
    changed = edit(store, 1, "two \N{SNOWMAN} \\u0000")
    assert isinstance(changed, NotebookRecord)
    assert (2, "Other", "ana", 1001.0) == (changed.revision, changed.title, changed.owner, changed.updated_at)
    assert changed == store.get("t", "n")
    first, second = store.get_revision("t", "n", 1), store.get_revision("t", "n", 2)
    assert ("one", "ana") == (first.content, first.author)
    assert ("two \N{SNOWMAN} \\u0000", "bob", 1001.0, 16) == (
        second.content, second.author, second.at, second.nbytes
    )  # fmt: skip
    assert None is store.get_revision("t", "n", 3)
    assert None is store.get_revision("t", "n", 2**40)


def test_of_writers_with_one_base_one_wins(store: NotebookStore) -> None:
    """A write on another revision than the latest one is refused with that number, and leaves nothing."""
    create(store)
    assert isinstance(edit(store, 1), NotebookRecord)
    refused = edit(store, 1)
    assert refused == contract.changed_since(2)
    assert (Reason.CONFLICT, True) == (refused.reason, "2" in refused.detail)
    assert contract.changed_since(2) == store.delete("t", "n", 1, act("delete", "n"))
    assert 2 == store.get("t", "n").revision
    assert ["create t n ana", "edit t n ana"] == acts(store)


@on_engines
def test_writers_at_once_lose_no_revision(store: NotebookStore) -> None:
    """Of eight threads with one base exactly one makes the revision."""
    create(store)
    together = Barrier(8)

    def write(number: int) -> NotebookRecord | Refused:
        together.wait(10)
        return edit(store, 1, str(number))

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(write, range(8)))
    assert 1 == sum(isinstance(one, NotebookRecord) for one in found)
    assert 7 == found.count(contract.changed_since(2))
    assert 2 == len(acts(store))


@on_engines
def test_names_are_made_once_at_once(store: NotebookStore) -> None:
    """Of eight threads that make one name, one makes it; the others are refused."""
    together = Barrier(8)

    def make(_number: int) -> NotebookRecord | Refused:
        together.wait(10)
        return create(store)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(make, range(8)))
    assert 7 == found.count(contract.NAME_TAKEN)


def test_tenants_are_separate(store: NotebookStore) -> None:
    """A name of one tenant is another notebook in another, and none of its calls reaches the other's."""
    create(store, tenant="t", text="ours")
    create(store, tenant="T", text="theirs")
    assert ("ours", "theirs") == tuple(store.get_revision(who, "n", 1).content for who in ("t", "T"))
    assert contract.NOTEBOOK_NOT_FOUND == store.delete("u", "n", None, act("delete", "n", "u"))
    assert contract.NOTEBOOK_NOT_FOUND == store.add_revision("u", "n", 1, draft(), act("edit", "n", "u"))
    assert None is store.get("u", "n")
    assert (
        ()
        == store.list_notebooks("u", after="", limit=5)
        == store.list_revisions("u", "n", before=None, limit=5)
    )
    assert None is store.delete("T", "n", None, act("delete", "n", "T"))
    assert store.get("t", "n") is not None
    assert ["create t n ana", "create T n ana", "delete T n ana"] == acts(store)


def test_a_deleted_notebook_is_gone_with_its_revisions(store: NotebookStore) -> None:
    """Nothing of it can be read, and the name can be made again, from revision 1."""
    create(store, text="old")
    edit(store, 1)
    assert None is store.delete("t", "n", 2, act("delete", "n"))
    assert None is store.get("t", "n") is store.get_revision("t", "n", 1)
    assert () == store.list_revisions("t", "n", before=None, limit=9)
    assert contract.NOTEBOOK_NOT_FOUND == edit(store, 2)
    assert 1 == create(store, text="new").revision
    assert [1] == [one.revision for one in store.list_revisions("t", "n", before=None, limit=9)]


def test_lists_go_on_where_a_page_ended(store: NotebookStore) -> None:
    """Notebooks by name in the order of code points, revisions from the latest on, each page behind the last."""
    names = ["a-b", "a1", "aa", "b", "z-9", "0"]
    for name in names:
        create(store, name)
    found, after = [], ""
    while page := store.list_notebooks("t", after=after, limit=4):
        found += [one.name for one in page]
        after = page[-1].name
    assert sorted(names) == found
    for base in range(1, 8):
        edit(store, base, name="b")
    first = store.list_revisions("t", "b", before=None, limit=3)
    assert [8, 7, 6] == [one.revision for one in first]
    assert [5, 4, 3, 2, 1] == [one.revision for one in store.list_revisions("t", "b", before=6, limit=9)]
    assert 8 == len(store.list_revisions("t", "b", before=2**40, limit=9))
    assert RevisionSummary(revision=8, author="bob", at=first[0].at, nbytes=4) == first[0]


def bounded(monkeypatch: pytest.MonkeyPatch, **bounds: int) -> None:
    for name, bound in bounds.items():
        monkeypatch.setattr(contract, name, bound)
        monkeypatch.setattr(sql_store, name, bound)


def test_the_oldest_revisions_go(store: NotebookStore, monkeypatch) -> None:
    """Beyond their number or bytes the oldest revisions are deleted, never the latest one."""
    bounded(monkeypatch, MAX_REVISIONS=3, MAX_HISTORY_BYTES=100)
    create(store)
    for base in range(1, 5):
        edit(store, base)
    kept = store.list_revisions("t", "n", before=None, limit=9)
    assert [5, 4, 3] == [one.revision for one in kept]
    edit(store, 5, "x" * 94)  # with "{}" of the analysis and one of the others exactly 100 bytes
    assert [6, 5] == [one.revision for one in store.list_revisions("t", "n", before=None, limit=9)]
    edit(store, 6, "x" * 500)
    assert [7] == [one.revision for one in store.list_revisions("t", "n", before=None, limit=9)]


def test_a_tenant_has_bounds(store: NotebookStore, monkeypatch) -> None:
    """Notebooks and bytes of a tenant are bounded exactly; what is deleted makes room; others have their own."""
    bounded(monkeypatch, MAX_NOTEBOOKS=2, MAX_TENANT_BYTES=20)
    assert [True, True] == [isinstance(create(store, name), NotebookRecord) for name in ("a", "b")]
    assert contract.TOO_MANY_NOTEBOOKS == create(store, "c")
    assert isinstance(create(store, "c", "u"), NotebookRecord)
    assert contract.NO_SPACE == edit(store, 1, "x" * 11, "a")
    assert isinstance(edit(store, 1, "x" * 10, "a"), NotebookRecord)
    assert contract.NO_SPACE == edit(store, 2, "", "a")
    store.delete("t", "b", None, act("delete", "b"))
    assert isinstance(edit(store, 2, "", "a"), NotebookRecord)
    assert contract.NO_SPACE == create(store, "d", text="x")
    assert isinstance(create(store, "d", text=""), NotebookRecord)


@on_engines
def test_a_write_and_its_audit_are_one_transaction(store: NotebookStore, monkeypatch) -> None:
    """If the line of the audit cannot be written, nothing else is."""
    create(store)

    def broken(*_args: object) -> None:
        raise OSError(5, "on purpose")

    with monkeypatch.context() as changed:
        changed.setattr(SqlNotebookStore, "_note", staticmethod(broken))
        for call in (
            lambda: create(store, "m"), lambda: edit(store, 1), lambda: store.delete("t", "n", None, act("d", "n"))
        ):  # fmt: skip
            with pytest.raises(OSError, match="on purpose"):
                call()
    assert None is store.get("t", "m")
    assert [1] == [one.revision for one in store.list_revisions("t", "n", before=None, limit=9)]
    assert 1 == store.get("t", "n").revision


def result(cell: str, sha256: str | None = None, record: str = "{}", size: int = 1) -> ResultRow:
    return ResultRow(cell=cell, sha256=sha256, byte_size=size, record=record)


def test_results_are_kept_a_few_of_each_cell(store: NotebookStore) -> None:
    """The latest come first; of each cell a few stay, and the bundles that no result has are told."""
    create(store)
    assert contract.NOTEBOOK_NOT_FOUND == store.add_result("t", "m", result("a"), ["a"])
    assert contract.NOTEBOOK_NOT_FOUND == store.add_result("u", "n", result("a"), ["a"])
    for number in range(contract.MAX_RESULTS):
        assert () == store.add_result("t", "n", result("a", f"s{number}"), ["a", "b"])
    assert () == store.add_result("t", "n", result("b", "s1"), ["a", "b"])
    assert ("s0",) == store.add_result("t", "n", result("a", None, "last"), ["a", "b"])
    assert () == store.add_result("t", "n", result("a", "s4"), ["a", "b"])  # `b` has s1 still
    found = store.list_results("t", "n")
    assert [("a", "s4"), ("a", None), ("b", "s1"), ("a", "s3"), ("a", "s2")] == [
        (one.cell, one.sha256) for one in found
    ]
    assert "last" == found[1].record
    assert found[0].at > found[1].at
    assert ("s1",) == store.add_result("t", "n", result("a", "s5"), ["a"])[:1]
    assert {"a"} == {one.cell for one in store.list_results("t", "n")}
    assert () == store.list_results("u", "n") == store.list_results("t", "m")
    store.delete("t", "n", None, act("delete", "n"))
    create(store)
    assert () == store.list_results("t", "n")


def test_results_of_a_tenant_have_a_bound(store: NotebookStore, monkeypatch) -> None:
    """Bytes of all notebooks count, to the byte, and of no other tenant."""
    for module in (contract, sql_store):
        monkeypatch.setattr(module, "MAX_RESULT_BYTES", 10)
    for tenant, name in (("t", "n"), ("t", "m"), ("u", "n")):
        create(store, name, tenant)
    assert () == store.add_result("t", "n", result("a", "s", size=6), ["a"])
    assert contract.NO_RESULT_SPACE == store.add_result("t", "m", result("a", "s", size=5), ["a"])
    assert () == store.add_result("t", "m", result("a", "s", size=4), ["a"])
    assert () == store.add_result("u", "n", result("a", "s", size=10), ["a"])
