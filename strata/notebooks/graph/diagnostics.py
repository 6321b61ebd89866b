"""What is to be said about cells, for their author."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from strata.notebooks.model.limits import MAX_DIAGNOSTICS
from strata.notebooks.names.analysis import Finding


class Severity(enum.Enum):
    """How much a diagnostic matters: an error keeps a cell from running as written."""

    ERROR = "error"
    WARNING = "warn"
    HINT = "info"


@attrs.frozen
class Diagnostic:
    """Something to say about a cell.

    Attributes:
        severity: How much it matters.
        code: Stable machine-readable word, one of :data:`SEVERITIES`.
        message: One sentence or two.
        line: Line in the cell, from 1; ``None``: the whole cell.
        column: Column of the line in characters, from 1; ``None`` where it is not known.
        name: The name it is about, if there is one.
        cells: Ids of the other cells it is about.
    """

    severity: Severity
    code: str
    message: str
    line: int | None = None
    column: int | None = None
    name: str | None = None
    cells: tuple[str, ...] = ()


SEVERITIES: Final[Mapping[str, Severity]] = {
    "syntax_error": Severity.ERROR,
    "too_nested": Severity.ERROR,
    "too_complex": Severity.ERROR,
    "star_import": Severity.ERROR,
    "cycle": Severity.ERROR,
    "after_unknown": Severity.ERROR,
    "after_malformed": Severity.ERROR,
    "table_malformed": Severity.ERROR,
    "table_duplicate_name": Severity.ERROR,
    "name_malformed": Severity.ERROR,
    "worker_malformed": Severity.ERROR,
    "timeout_not_numeric": Severity.ERROR,
    "nocache_malformed": Severity.ERROR,
    "annotation_unknown": Severity.WARNING,
    "annotation_repeated": Severity.WARNING,
    "annotation_limit": Severity.WARNING,
    "self_reference": Severity.WARNING,
    "deleted_name": Severity.WARNING,
    "defined_later": Severity.WARNING,
    "undefined_name": Severity.WARNING,
    "table_shadows_define": Severity.WARNING,
    "duplicate_definition": Severity.HINT,
    "changed_in_place": Severity.HINT,
    "dynamic_names": Severity.HINT,
    "further_diagnostics": Severity.HINT,
}
"""Every code of a diagnostic, and how much it matters."""


def say(code: str, message: str, *, name: str | None = None, cells: tuple[str, ...] = ()) -> Diagnostic:
    """Return a diagnostic about a whole cell."""
    return Diagnostic(SEVERITIES[code], code, message, name=name, cells=cells)


def diagnostic_of(found: Finding) -> Diagnostic:
    """Return the diagnostic of a finding of one cell."""
    return Diagnostic(SEVERITIES[found.code], found.code, found.message, found.line, found.column, found.name)


def first_diagnostics(cells: Sequence[Sequence[Diagnostic]]) -> list[tuple[Diagnostic, ...]]:
    """Return ``MAX_DIAGNOSTICS`` diagnostics at most, by cell; a further one counts those left out."""
    left = MAX_DIAGNOSTICS
    found = []
    for said in cells:
        kept = tuple(said[:left])
        left -= len(kept)
        if len(kept) < len(said):
            kept = (*kept, say("further_diagnostics", f"{len(said) - len(kept)} more are left out."))
        found.append(kept)
    return found
