"""Takes the sources of the client from the repository, or from a source distribution that has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("strata/__init__.py", "strata/client")


class ClientSources(BuildHookInterface):
    """Adds the sources to what is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's signature
        """Name the files to include."""
        root = Path(self.root)
        base = root if (root / SOURCES[0]).is_file() else root.parent
        for source in SOURCES:
            build_data["force_include"][str(base / source)] = source
