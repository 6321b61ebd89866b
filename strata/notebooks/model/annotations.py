"""Read the annotations of a cell: lines ``# @key value`` in its first run of comments and blank lines.

In SQL ``--`` begins such a line, too. Unknown and malformed annotations are findings, never dropped silently.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final

import attrs

from strata.notebooks.model.limits import MAX_ANNOTATIONS, MAX_TITLE_CHARACTERS
from strata.notebooks.names.analysis import SQL, Finding

LONGEST_TIMEOUT: Final = 86_400.0
"""Maximum seconds of ``@timeout``."""

_LINE: Final = re.compile(r"(?P<mark>#|--)\s*(?:@(?P<key>\w*)\s*(?P<value>.*)|.*)")
_IDENTIFIER: Final = re.compile(r"[^\W\d]\w*")
_SNAPSHOT: Final = re.compile(r"snapshot=([0-9]{1,19})")
_MOST_SNAPSHOT: Final = 2**63 - 1


@attrs.frozen
class TableInput:
    """A table that a cell names by ``@table``: its variable, its URI, and a snapshot if one is pinned."""

    variable: str
    uri: str
    snapshot: int | None = None


@attrs.frozen
class Annotations:
    """The annotations of a cell.

    Attributes:
        name: Display name; of SQL, the name of its result.
        worker: The worker that runs it.
        timeout: Seconds it may run.
        tables: Tables bound to variables.
        after: Ids or names of cells that must run before it.
        nocache: Whether its results are never reused.
        findings: What is wrong with them.
    """

    name: str | None = None
    worker: str | None = None
    timeout: float | None = None
    tables: tuple[TableInput, ...] = ()
    after: tuple[str, ...] = ()
    nocache: bool = False
    findings: tuple[Finding, ...] = ()


def annotation_lines(language: str, source: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, key in lower case and value of each annotation of a cell."""
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None or (match["mark"] == "--" and language != SQL):
            return
        if match["key"] is not None:
            yield number, match["key"].lower(), match["value"].strip()


def read_annotations(language: str, source: str) -> Annotations:
    """Return the annotations of a cell in Python or SQL; those of other languages are text.

    Where a key that counts once is repeated, the last line counts, and the earlier one is a finding.
    """
    if language not in ("python", SQL):
        return Annotations()
    reader = _Reader(language)
    for number, (line, key, value) in enumerate(annotation_lines(language, source)):
        if number == MAX_ANNOTATIONS:
            reader.wrong("annotation_limit", f"Only {MAX_ANNOTATIONS} annotations of a cell are read.", line)
            break
        reader.take(line, key, value)
    return reader.annotations()


class _Reader:
    def __init__(self, language: str) -> None:
        self.language = language
        self.once: dict[str, str | float] = {}
        self.tables: list[TableInput] = []
        self.after: list[str] = []
        self.nocache = False
        self.findings: list[Finding] = []

    def annotations(self) -> Annotations:
        name, worker, timeout = (self.once.get(key) for key in ("name", "worker", "timeout"))
        return Annotations(
            name=name if isinstance(name, str) else None,
            worker=worker if isinstance(worker, str) else None,
            timeout=timeout if isinstance(timeout, float) else None,
            tables=tuple(self.tables),
            after=tuple(self.after),
            nocache=self.nocache,
            findings=tuple(self.findings),
        )

    def wrong(self, code: str, message: str, line: int) -> None:
        self.findings.append(Finding(code, message, line))

    def take(self, line: int, key: str, value: str) -> None:
        match key:
            case "name" | "worker":
                self._text(line, key, value)
            case "timeout":
                self._timeout(line, value)
            case "table":
                self._table(line, value)
            case "after":
                self.after += value.split()
                if not value:
                    self.wrong("after_malformed", "@after needs ids or names of cells.", line)
            case "nocache":
                self._nocache(line, value)
            case _:
                self.wrong("annotation_unknown", f"@{key[:64]} is no annotation.", line)

    def _once(self, line: int, key: str, value: str | float) -> None:
        if key in self.once:
            self.wrong("annotation_repeated", f"@{key} is given twice; the last one counts.", line)
        self.once[key] = value

    def _text(self, line: int, key: str, value: str) -> None:
        if not value or len(value) > MAX_TITLE_CHARACTERS:
            self.wrong(f"{key}_malformed", f"@{key} needs 1 to {MAX_TITLE_CHARACTERS} characters.", line)
        elif key == "name" and self.language == SQL and not _IDENTIFIER.fullmatch(value):
            self.wrong("name_malformed", "@name of an SQL cell names its result: it must be a name.", line)
        else:
            self._once(line, key, value)

    def _timeout(self, line: int, value: str) -> None:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= LONGEST_TIMEOUT:
            self.wrong("timeout_not_numeric", f"@timeout needs seconds, at most {LONGEST_TIMEOUT:.0f}.", line)
        else:
            self._once(line, "timeout", seconds)

    def _table(self, line: int, value: str) -> None:
        variable, *rest = value.split()[:4] or [""]
        pinned = _SNAPSHOT.fullmatch(rest[1]) if len(rest) == 2 else None  # noqa: PLR2004  # URI and snapshot
        snapshot = None if pinned is None else int(pinned[1])
        if not _IDENTIFIER.fullmatch(variable) or not rest or (len(rest) > 1 and pinned is None):
            self.wrong("table_malformed", "@table needs a name and a table's URI, and snapshot=<id>.", line)
        elif snapshot is not None and snapshot > _MOST_SNAPSHOT:
            self.wrong("table_malformed", f"The snapshot of @table is at most {_MOST_SNAPSHOT}.", line)
        elif any(variable == table.variable for table in self.tables):
            self.wrong("table_duplicate_name", f"@table names {variable[:64]} twice.", line)
        else:
            self.tables.append(TableInput(variable, rest[0], snapshot))

    def _nocache(self, line: int, value: str) -> None:
        if value.lower() not in ("", "off"):
            self.wrong("nocache_malformed", "@nocache takes nothing, or off.", line)
        else:
            self.nocache = not value
