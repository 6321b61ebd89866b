"""Analyse the source of one cell: its names, or what is wrong with it.

Only the standard library is imported: this module also runs in the analyser's child process.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from strata.notebooks.names.name_flow import name_flow

ANALYSIS_VERSION: Final = 1
"""Version of the analysis; a stored one of another version is made again."""

PYTHON: Final = "python"
SQL: Final = "sql"

TOO_NESTED: Final = "The code is nested too deeply, or an expression has too many parts. Split it."

_DYNAMIC: Final = ("exec", "eval", "globals", "locals", "vars")
_SQL_NAME: Final = re.compile(
    r"""
    '(?:[^']|'')*'                # a text
    | --[^\n]* | \#[^\n]*         # a comment, or an annotation of a cell
    | /\*.*?\*/
    | "(?P<quoted>(?:[^"]|"")+)"
    | (?P<name>[^\W\d]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Finding:
    """Something to say about a cell, before its place in the notebook is known.

    Attributes:
        code: Stable machine-readable word.
        message: One sentence or two, for the author.
        line: Line in the cell, from 1; ``None``: the whole cell.
        column: Column of the line in characters, from 1; ``None`` where it is not known.
        name: The name it is about, if there is one.
    """

    code: str
    message: str
    line: int | None = None
    column: int | None = None
    name: str | None = None


@dataclass
class Analysis:
    """What a cell does to names. All lists are sorted.

    Attributes:
        reads: Names that it may load before it binds them.
        defines: Names that it may leave bound.
        keeps: Names of ``defines`` and ``deletes`` that it may leave as they were.
        deletes: Names that it may leave deleted.
        changes: Names of ``defines`` whose values it changes in place, by item or attribute assignment.
        later: Names that functions and classes made by it load when they are called.
        later_binds: Names that such functions bind or delete when they are called.
        mentions: Of SQL: names in it, in lower case, which are tables or values if something defines them.
        findings: What is wrong or remarkable.
        error: Whether it cannot run: then it has no names.
    """

    reads: list[str] = field(default_factory=list)
    defines: list[str] = field(default_factory=list)
    keeps: list[str] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    later_binds: list[str] = field(default_factory=list)
    mentions: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    error: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the analysis as JSON values; lists that are empty are left out."""
        return {key: value for key, value in asdict(self).items() if value}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Analysis:
        """Return the analysis of :meth:`as_json`."""
        findings = [Finding(**one) for one in values.get("findings", ())]
        return cls(**{**values, "findings": findings})

    @property
    def names(self) -> int:
        """Number of names in it."""
        lists = (self.reads, self.defines, self.keeps, self.deletes, self.later, self.later_binds)
        return sum(map(len, lists)) + len(self.mentions)


def analyse(language: str, source: str) -> Analysis:
    """Analyse a cell.

    Args:
        language: ``python``, ``sql`` or another one, which has no names.
        source: Its source.
    """
    if language == PYTHON:
        return _python(source)
    if language == SQL:
        return Analysis(mentions=sorted(set(_sql_names(source))))
    return Analysis()


def failed(code: str, message: str, line: int | None = None, column: int | None = None) -> Analysis:
    """Return the analysis of a cell that cannot run."""
    return Analysis(findings=[Finding(code, message, line, column)], error=True)


def _python(source: str) -> Analysis:
    try:
        # No flag of this module counts. Warnings are the interpreter's, when the cell runs.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = compile(source, "<cell>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
            stars = list(_stars(tree))
            if stars:
                return Analysis(findings=stars, error=True)
            flow = name_flow(compile(source, "<cell>", "exec", dont_inherit=True))
    except SyntaxError as error:
        message = f"{error.msg[:1].upper()}{error.msg[1:]}."
        return failed("syntax_error", message, error.lineno, error.offset or None)
    except ValueError as error:  # a null character, a surrogate
        return failed("syntax_error", f"The source is no text that Python reads: {error}.")
    except (RecursionError, MemoryError):
        return failed("too_nested", TOO_NESTED)
    changes = _changed_in_place(tree) & flow.loads
    findings = [
        Finding("dynamic_names", f"Names that are made or read by {name}() are not seen.", name=name)
        for name in _DYNAMIC
        if name in flow.reads
    ]
    return Analysis(
        reads=sorted(flow.reads),
        defines=sorted(flow.defines | changes),
        keeps=sorted(flow.keeps),
        deletes=sorted(flow.deletes),
        changes=sorted(changes),
        later=sorted(flow.later),
        later_binds=sorted(flow.later_binds),
        findings=findings,
    )


def _stars(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            module = "." * node.level + (node.module or "")
            yield Finding(
                "star_import",
                f"A star import hides which names the cell defines. Import them, or use `import {module}`.",
                node.lineno,
                node.col_offset + 1,
            )


def _changed_in_place(tree: ast.AST) -> set[str]:
    """Return the names whose items or attributes are assigned or deleted."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            root: ast.expr = node
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name):
                found.add(root.id)
    return found


def _sql_names(source: str) -> Iterator[str]:
    """Yield the names in SQL that are no part of a text or comment, in lower case as SQL compares them."""
    for match in _SQL_NAME.finditer(source):
        quoted = match["quoted"]
        if quoted is not None:
            yield quoted.replace('""', '"').lower()
        elif match["name"]:
            yield match["name"].lower()
