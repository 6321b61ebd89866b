"""Catalog clients are walked namespace by namespace, in parts that join to the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from pyiceberg.exceptions import NoSuchNamespaceError

from strata.outcomes import Reason, Refused
from strata.tables.catalogs import listing
from strata.tables.catalogs.listing import Listed, Part, Place, list_part
from strata.tables.catalogs.refs import TableRef

Namespace = tuple[str, ...]

LAKE: dict[Namespace, list[str]] = {
    ("a",): ["t", "u.v"],
    ("a", "b"): ["t"],
    ("a.b",): ["t"],
    ("a", "c", "d"): ["%", "*", "ü"],
    ("b",): [],
    ("c",): [f"t{at:03}" for at in range(40)],
}


ANY = TableRef("lake", ("-",), "-")


@attrs.define
class Client:
    """A catalog client whose tables are in memory; ``gone`` namespaces are listed and then dropped."""

    tables: dict[Namespace, list[str]]
    views: dict[Namespace, list[str]] | None = None
    gone: frozenset[Namespace] = frozenset()
    asked: list[Namespace] = attrs.field(factory=list)
    error: Exception | None = None

    def list_namespaces(self, above: Namespace = ()) -> list[Namespace]:
        if self.error is not None:
            raise self.error
        depth = len(above)
        below = {one[: depth + 1] for one in self.tables if one[:depth] == above and len(one) > depth}
        return [above, *below] if above else list(below)  # some clients repeat the namespace

    def list_tables(self, namespace: Namespace) -> list[Namespace]:
        self.asked.append(namespace)
        if namespace in self.gone:
            raise NoSuchNamespaceError
        return [(*namespace, name) for name in reversed(self.tables.get(namespace, []))]

    def list_views(self, namespace: Namespace) -> list[Namespace]:
        if self.views is None:
            raise NotImplementedError
        return [(*namespace, name) for name in self.views.get(namespace, [])]


@attrs.define
class Opened:
    """The configured catalogs: one."""

    client: Client

    def opened(self, _catalog: TableRef) -> Client:
        return self.client


def test_known_namespaces_are_requested_again_after_a_moment() -> None:
    """Pages that follow each other share the answer; a namespace that is made meanwhile is listed 10 seconds later."""
    now = [0.0]
    known = listing.KnownNamespaces(lambda: now[0])
    client = Client({("a",): ["t"], ("b",): ["t"]})
    assert [(("a",), "t"), (("b",), "t")] == names(walk(client, 1, known=known))
    client.tables = {**client.tables, ("c",): ["t"]}
    assert 2 == len(walk(client, 1, known=known))
    now[0] = listing.NAMESPACE_SECONDS
    assert 3 == len(walk(client, 1, known=known))


def test_more_namespaces_than_are_kept_are_requested_for_each_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tenant keeps is bounded over all of its catalogs."""
    monkeypatch.setattr(listing, "KNOWN_NAMESPACES", 3)
    known = listing.KnownNamespaces(lambda: 0.0)
    asked: list[str] = []

    def ask(alias: str, count: int) -> set[Namespace]:
        asked.append(alias)
        return {(f"{at}",) for at in range(count)}

    for alias, count in (("a", 2), ("a", 2), ("b", 2), ("b", 2), ("c", 9), ("c", 9)):
        assert count == len(known.below(alias, (), lambda alias=alias, count=count: ask(alias, count)))
    assert ["a", "b", "b", "c", "c"] == asked


def part(client: Client, behind: Place, most: int, **more: Any) -> Part:
    options = {"namespace": None, "behind": behind, "most": most, **more}
    found = list_part(Opened(client), ANY, **options)  # type: ignore[arg-type]
    assert isinstance(found, Part)
    return found


def walk(client: Client, most: int, **more: Any) -> list[Listed]:
    """Return all parts joined."""
    found: list[Listed] = []
    behind: Place | None = Place()
    while behind is not None:
        following = part(client, behind, most, **more)
        assert len(following.found) <= most
        found += following.found
        assert following.following is None or following.following > behind
        behind = following.following
    return found


def names(found: list[Listed]) -> list[tuple[Namespace, str]]:
    return [(one.ref.namespace, one.ref.table) for one in found]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 46, 47, 48])
@pytest.mark.parametrize("namespaces", [1, 2, 64])
def test_parts_of_any_length_join_to_the_whole(
    most: int, namespaces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each table is there once, in the order of namespaces and names, however few namespaces a part asks for."""
    monkeypatch.setattr(listing, "NAMESPACES", namespaces)
    whole = sorted((namespace, name) for namespace, tables in LAKE.items() for name in tables)
    assert whole == names(walk(Client(LAKE), most))


def test_views_are_listed_among_the_tables() -> None:
    """In the order of names; a name that is both is a table."""
    client = Client({("a",): ["b", "d"]}, views={("a",): ["a", "b", "c"]})
    assert [("a", "view"), ("b", "table"), ("c", "view"), ("d", "table")] == [
        (one.ref.table, one.kind) for one in walk(client, 1)
    ]


def test_one_namespace_is_listed_without_those_below_it() -> None:
    """And no other one is looked at."""
    client = Client(LAKE)
    assert [(("a",), "t"), (("a",), "u.v")] == names(walk(client, 1, namespace=("a",)))
    assert {("a",)} == set(client.asked)


def test_a_namespace_that_was_dropped_meanwhile_has_no_tables() -> None:
    """The listing goes on behind it."""
    client = Client(LAKE, gone=frozenset({("a",), ("c",)}))
    assert {("a", "b"), ("a", "c", "d"), ("a.b",)} == {one.ref.namespace for one in walk(client, 5)}


@pytest.mark.parametrize("chosen", [lambda one: one == ("c",), lambda one: len(one) > 1, lambda _one: False])
def test_only_namespaces_that_are_entered_are_asked_for_their_tables(
    chosen: Callable[[Namespace], bool],
) -> None:
    """Others are passed over, those below them are not."""
    client = Client(LAKE)
    found = walk(client, 100, enter=chosen)
    assert {one for one in LAKE if chosen(one) and LAKE[one]} == {one.ref.namespace for one in found}
    assert all(map(chosen, client.asked))


def test_a_database_of_glue_or_hive_is_one_namespace_whatever_its_name() -> None:
    """pyiceberg splits the name at its dots; no database is inside another."""

    class Glue(Client):
        def _get_glue_table(self) -> None:
            pass

        def list_namespaces(self, above: Namespace = ()) -> list[Namespace]:
            assert above == ()
            return [("a", "b"), ("c",)]

    client = Glue({("a.b",): ["t", "u"], ("c",): ["t"]})
    for most in (1, 2, 3, 4):
        assert [(("a", "b"), "t"), (("a", "b"), "u"), (("c",), "t")] == names(walk(client, most))


def test_a_part_that_is_not_awaited_any_more_ends() -> None:
    """Before its next namespace."""
    client = Client(LAKE)
    assert () == part(client, Place(), 100, stopped=lambda: True).found
    assert [] == client.asked


def test_a_catalog_that_does_not_answer_is_unavailable() -> None:
    """Its error's text, which may hold credentials, is not repeated."""
    client = Client(LAKE, error=OSError("https://user:secret@host"))
    refused = list_part(Opened(client), ANY, namespace=None, behind=Place(), most=1)  # type: ignore[arg-type]
    assert isinstance(refused, Refused)
    assert (Reason.UNAVAILABLE, "The catalog lake is unavailable") == (refused.reason, refused.detail)
