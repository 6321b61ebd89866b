"""The graph of a notebook: producers, order, circles and what is said about cells."""

from __future__ import annotations

import pytest

from strata.notebooks.graph.dependencies import CellFacts, Graph, GraphTooLargeError, build_graph
from strata.notebooks.graph.diagnostics import SEVERITIES, Severity
from strata.notebooks.model.annotations import read_annotations
from strata.notebooks.model.limits import MAX_DIAGNOSTICS
from strata.notebooks.model.notebook import Language
from strata.notebooks.names.analysis import analyse


def graph_of(*sources: str | tuple[str, str]) -> Graph:
    """Return the graph of cells ``c0``, ``c1`` …: sources in Python, or pairs of language and source."""
    cells = []
    for number, one in enumerate(sources):
        language, source = one if isinstance(one, tuple) else ("python", one)
        cells.append(
            CellFacts(
                id=f"c{number}",
                language=Language(language),
                analysis=analyse(language, source),
                annotations=read_annotations(language, source),
            )
        )
    return build_graph(cells)


def edges(*sources: str | tuple[str, str]) -> set[tuple[str, str, str]]:
    return {(edge.source, edge.target, edge.name) for edge in graph_of(*sources).edges}


def codes(graph: Graph, cell: str) -> list[str]:
    [node] = [node for node in graph.cells if node.id == cell]
    return [one.code for one in node.diagnostics]


def test_the_producer_is_the_last_earlier_cell() -> None:
    """A name comes from the last cell before that defines it; later cells never produce for earlier ones."""
    assert {("c1", "c2", "x")} == edges("x = 1", "x = 2", "y = x", "x = 3")
    assert set() == edges("y = x", "x = 1")


def test_a_cell_that_may_leave_a_name_as_it_was_passes_it_on() -> None:
    """A conditional definition takes the former value, too."""
    found = edges("x = 1\nyes = 1", "if yes: x = 2", "y = x")
    assert {("c0", "c1", "x"), ("c0", "c1", "yes"), ("c1", "c2", "x")} == found


def test_names_of_functions_are_looked_up_where_they_are_called() -> None:
    """A cell that takes a function takes the names that it loads, as they are at that cell."""
    found = edges("def f(): return x", "x = 1", "y = f()", "x = 2", "z = f()")
    assert {("c0", "c2", "f"), ("c1", "c2", "x"), ("c0", "c4", "f"), ("c3", "c4", "x")} == found


def test_names_that_functions_bind_are_defined_where_they_are_called() -> None:
    """A call of a function with a global statement defines that name in the calling cell."""
    graph = graph_of("def f():\n    global z\n    z = 1", "f()", "y = z")
    assert {("c0", "c1", "f"), ("c1", "c2", "z")} <= {(e.source, e.target, e.name) for e in graph.edges}


def test_a_change_in_place_is_a_definition() -> None:
    """Item and attribute assignment make the changing cell the producer, and are told."""
    graph = graph_of("d = {}", "d['k'] = 1", "y = d")
    assert {("c0", "c1", "d"), ("c1", "c2", "d")} == {(e.source, e.target, e.name) for e in graph.edges}
    assert ["changed_in_place"] == codes(graph, "c1")


def test_a_deleted_name_has_no_producer() -> None:
    """After an unconditional del no cell takes the name, and the reader is told by whom it was deleted."""
    graph = graph_of("x = 1", "del x", "y = x")
    assert {("c0", "c1", "x")} == {(e.source, e.target, e.name) for e in graph.edges}
    [said] = graph.cells[2].diagnostics
    assert ("deleted_name", "x", ("c1",)) == (said.code, said.name, said.cells)


def test_what_is_said_about_names() -> None:
    """Duplicates are hints on both cells; undefined, later and self-referring names are warnings."""
    graph = graph_of("x = 1", "x = 2", "y = nothing", "z = w", "w = 1", "n += 1", "print(len('a'))")
    assert ["duplicate_definition"] == codes(graph, "c0") == codes(graph, "c1")
    assert ("c1",) == graph.cells[0].diagnostics[0].cells
    assert ["undefined_name"] == codes(graph, "c2")
    assert ["defined_later"] == codes(graph, "c3")
    assert ["self_reference"] == codes(graph, "c5")
    assert [] == codes(graph, "c6")
    assert {
        "duplicate_definition": Severity.HINT,
        "self_reference": Severity.WARNING,
    }.items() <= SEVERITIES.items()


def test_a_name_that_with_may_have_kept_is_no_self_reference() -> None:
    """A context manager may suppress an exception: what it assigns is read by no false alarm."""
    assert [] == codes(graph_of("with open('a') as q:\n    x = q.read()\ny = x"), "c0")


def test_sql_takes_the_names_that_it_mentions() -> None:
    """An SQL cell depends on values that it names in any case, and defines ``result`` or its ``@name``."""
    graph = graph_of(
        "flights = 1", ("sql", "-- @name top\nSELECT * FROM Flights WHERE 'x' = 'flights2'"), "y = top",
        ("sql", "SELECT 1"), "z = result", ("markdown", "flights"),
    )  # fmt: skip
    found = {(e.source, e.target, e.name) for e in graph.edges}
    assert {("c0", "c1", "flights"), ("c1", "c2", "top"), ("c3", "c4", "result")} == found


def test_tables_are_bound_and_not_read() -> None:
    """The variables of @table come from no cell, also where one defines them."""
    graph = graph_of("t = 1", "# @table t wh:db.events\ny = t, t_snapshot")
    assert () == graph.edges
    assert [] == codes(graph, "c1")


def test_after_orders_cells_and_can_make_a_circle() -> None:
    """@after orders without a name, by id or name; a circle is an error on its cells, not on those behind."""
    graph = graph_of("# @after c2\nx = 1", "y = 2", "# @name third\nz = 3", "# @after third nobody\nq = 1")
    assert ("c1", "c2", "c0", "c3") == graph.order
    assert ["after_unknown"] == codes(graph, "c3")
    graph = graph_of("# @after c1\nx = 1", "y = x", "z = y", "w = 1")
    assert ("c3",) == graph.order
    assert (["cycle"], ["cycle"], []) == tuple(codes(graph, f"c{place}") for place in range(3))
    assert [False, False, False, True] == [node.runnable for node in graph.cells]
    assert ["cycle"] == codes(graph_of("# @after c0\nx = 1"), "c0")


def test_a_faulty_cell_defines_nothing_and_cannot_run() -> None:
    """A cell with a syntax error has its place in its diagnostic, and produces nothing."""
    graph = graph_of("x = 1", "x = (", "y = x", "from m import *")
    assert {("c0", "c2", "x")} == {(e.source, e.target, e.name) for e in graph.edges}
    [said] = graph.cells[1].diagnostics
    assert (Severity.ERROR, "syntax_error", 1, 5) == (said.severity, said.code, said.line, said.column)
    assert [True, False, True, False] == [node.runnable for node in graph.cells]


def test_the_size_of_a_graph_is_bounded() -> None:
    """Too many edges are an error, and too many diagnostics are cut with a word about it."""
    names = [f"v{number}" for number in range(300)]
    with pytest.raises(GraphTooLargeError):
        graph_of("\n".join(f"{name} = 1" for name in names), *["(" + ", ".join(names) + ")"] * 70)
    cell = "(" + ", ".join(f"u{number}" for number in range(600)) + ")"
    graph = graph_of(cell, cell, cell)
    assert [600, MAX_DIAGNOSTICS - 600 + 1, 1] == [len(node.diagnostics) for node in graph.cells]
    assert "further_diagnostics" == codes(graph, "c2")[-1]


def test_annotations_are_read_and_their_faults_told() -> None:
    """Known annotations have their meaning; unknown and malformed ones are findings with their line."""
    found = read_annotations(
        "python", "# a text\n# @Name Sum of sales\n\n# @worker gpu-1\n#@timeout 30\n# @table t wh:db.t snapshot=5\n"
        "# @after a b\n# @nocache\nx = 1\n# @worker late",
    )  # fmt: skip
    assert ("Sum of sales", "gpu-1", 30.0, ("a", "b"), True) == (
        found.name, found.worker, found.timeout, found.after, found.nocache
    )  # fmt: skip
    assert [("t", "wh:db.t", 5)] == [(one.variable, one.uri, one.snapshot) for one in found.tables]
    assert () == found.findings
    wrong = read_annotations(
        "python", "# @nmae x\n# @timeout soon\n# @table 1t u\n# @table t u v\n# @after\n# @nocache maybe\n"
        "# @name\n# @table t u\n# @table t w\n# @worker a\n# @worker b\n# @timeout 1e9",
    )  # fmt: skip
    assert [
        ("annotation_unknown", 1), ("timeout_not_numeric", 2), ("table_malformed", 3), ("table_malformed", 4),
        ("after_malformed", 5), ("nocache_malformed", 6), ("name_malformed", 7), ("table_duplicate_name", 9),
        ("annotation_repeated", 11), ("timeout_not_numeric", 12),
    ] == [(one.code, one.line) for one in wrong.findings]  # fmt: skip
    assert "b" == wrong.worker
    assert {one.code for one in wrong.findings} <= SEVERITIES.keys()
    assert ["name_malformed"] == [one.code for one in read_annotations("sql", "-- @name two words").findings]
    many = read_annotations("python", "# @after a\n" * 101)
    assert (100, "annotation_limit") == (len(many.after), many.findings[-1].code)
