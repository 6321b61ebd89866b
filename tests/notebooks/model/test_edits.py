"""Edits and differences of notebooks, against a list that is edited by hand."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from strata.notebooks.model.changes import ChangeKind, changes_between
from strata.notebooks.model.edits import DeleteCell, Describe, InsertCell, MoveCell, ReplaceCell, apply_edits
from strata.notebooks.model.notebook import Cell, Content, Language
from strata.outcomes import Refused


def content(*ids: str) -> Content:
    return Content(title="T", cells=tuple(Cell(id=id_, source=id_) for id_ in ids))


def ids(found: Content | Refused) -> list[str]:
    assert isinstance(found, Content), found
    return [cell.id for cell in found.cells]


def edited(before: Content, *edits: object) -> Content | Refused:
    numbers = itertools.count()
    return apply_edits(before, edits, lambda: f"new{next(numbers)}")


def test_edits_apply_one_after_the_other() -> None:
    """Each edit sees what those before it left; nothing of the former content changes."""
    before = content("a", "b", "c")
    found = edited(
        before, InsertCell("1", after="a"), MoveCell("c"), DeleteCell("b"), InsertCell("2"), MoveCell("a", after="new0"),
        ReplaceCell("a", source="x", name="N", language=Language.SQL), Describe(title="U"),
    )  # fmt: skip
    assert ["new1", "c", "new0", "a"] == ids(found)
    assert Cell(id="a", source="x", name="N", language=Language.SQL) == found.cells[-1]
    assert ("U", ["a", "b", "c"]) == (found.title, ids(before))
    assert None is edited(found, ReplaceCell("a", name="")).cells[-1].name


def test_a_fresh_id_is_never_one_that_exists() -> None:
    """Ids that are taken are tried again."""
    assert ["new1", "new0"] == ids(edited(content("new0"), InsertCell("")))


def test_a_refusal_names_the_edit() -> None:
    """The place of a faulty edit is in its refusal, and so is its part."""
    refused = edited(content("a"), DeleteCell("a"), InsertCell("", after="a"))
    assert (("edits", 1, "after"), "cell_unknown") == (refused.loc, refused.code)
    assert ("edits",) == edited(content("a")).loc


@given(st.permutations("abcdefgh"), st.permutations("abcdefgh"), st.integers(0, 8), st.integers(0, 8))
def test_a_difference_leads_from_one_to_the_other(first, second, cut, other) -> None:
    """Added, removed, changed and moved cells account for the difference, with as few moved cells as possible."""
    before, after = content(*first[:cut]), content(*second[:other])
    found = changes_between(before, after)
    kinds = {kind: {one.cell_id for one in found if one.kind is kind} for kind in ChangeKind}
    assert set(second[:other]) - set(first[:cut]) == kinds[ChangeKind.ADDED]
    assert set(first[:cut]) - set(second[:other]) == kinds[ChangeKind.REMOVED]
    assert set() == kinds[ChangeKind.CHANGED]
    common = set(first[:cut]) & set(second[:other])
    stay = common - kinds[ChangeKind.MOVED]
    assert [id_ for id_ in first if id_ in stay] == [id_ for id_ in second if id_ in stay]
    longest = max(
        (len(kept) for size in range(len(common) + 1) for kept in itertools.combinations(sorted(common), size)
         if [one for one in first if one in kept] == [one for one in second if one in kept]),
    )  # fmt: skip
    assert longest == len(stay)
    assert (changes_between(before, before), len(found)) == ((), sum(map(len, kinds.values())))
