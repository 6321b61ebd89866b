"""Lint and render a chart by Helm's own library, in a process of its own: the library is a runtime of Go.

``python helm_tool.py lint CHART`` and ``python helm_tool.py render CHART VALUES`` (JSON) print JSON.
"""

from __future__ import annotations

import json
import sys

import helm_python


def main() -> None:
    """Do what the arguments say; what Helm refuses is ``{"error": …}``."""
    what, chart, *more = sys.argv[1:]
    if what == "lint":
        found = helm_python.lint(chart)
    else:
        try:
            with helm_python.Chart.load(chart) as loaded:
                values = json.loads(more[0])
                loaded.validate_schema(values)
                found = loaded.render(values, name="demo", namespace="prod")
        except helm_python.HelmError as error:
            found = {"error": str(error)}
    sys.stdout.write(json.dumps(found))


main()
