"""What needs the extra's package for SQL is left out where that is not installed; the group ``test`` has it."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("sqlglot") is None:
    collect_ignore = ["test_sql_comments.py"]
