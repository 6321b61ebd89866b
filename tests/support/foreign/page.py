"""Print the page about tables of other engines: ``python -m foreign.page PATH`` writes it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from foreign import TABLES
from foreign.cases import Refusal
from foreign.maker import Maker

HEAD = """\
# Tables of other engines

Each line is a table as the named engine or library writes it, made anew by the generators of the test suite
(`tests/support/foreign/`) and read by its tests: all rows, with filters, and older snapshots. The right values are by hand, from the
specifications of Iceberg and Parquet. Where public test data has such tables, the last column names the project and the table;
nothing is copied from there. Further rules are in [Read from a catalog](../how-to/read-from-a-catalog.md#files-that-other-engines-wrote).

*Right* means that every row and value is the specification's. Everything else is refused with the sentence that is shown: 501 for what is
not supported, 500 for what is damaged or contradicts itself.

| written by | what is in it | answer | known from |
|---|---|---|---|
"""


def page() -> str:
    """Return the page."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for case in sorted(TABLES.values(), key=lambda one: (one.writer, one.what)):
            right = case.make(Maker(Path(folder, case.name)))
            answer = "right"
            if isinstance(right.rows, Refusal):
                answer = f"{500 if right.rows.damaged else 501}: {right.rows.sentence}"
            elif any(isinstance(one, Refusal) for _, one in right.more):
                answer = "right, or refused with the unsupported column"
            lines.append(f"| {case.writer} | {case.what} | {answer} | {case.known} |\n")
    return HEAD + "".join(lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
