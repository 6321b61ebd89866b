"""Run ``strata`` as a process that serves the pages of the tests, whatever is installed."""

from __future__ import annotations

import loop_budget
from pages_kit import pages

from strata.http.api import docs
from strata.http.routes.pages import files


def main() -> None:
    """Run the program, its event loop measured."""
    built = pages()
    for module in (files, docs):
        vars(module)["installed_pages"] = lambda: built
    loop_budget.main()
