"""Baseline: pyiceberg's own ``to_arrow()``, in a process of its own.

Run as a script: ``bare_pyiceberg.py WAREHOUSE``. Reads a JSON list of a table's name and columns (or null) a
line, and prints for each the seconds that loading the table and reading its rows took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pyiceberg.catalog.sql import SqlCatalog


def main(warehouse: Path) -> None:
    """Answer until the end of standard input."""
    catalog = SqlCatalog("strata", uri=f"sqlite:///{warehouse / 'catalog.db'}", warehouse=str(warehouse))
    for line in sys.stdin:
        name, columns = json.loads(line)
        began = time.perf_counter()
        table = catalog.load_table(name)
        scan = table.scan() if columns is None else table.scan(selected_fields=tuple(columns))
        rows = scan.to_arrow().num_rows
        print(json.dumps([time.perf_counter() - began, rows]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
