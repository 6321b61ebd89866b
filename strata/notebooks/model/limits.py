"""Bounds of a notebook. A notebook beyond one of them is refused, and the refusal names the bound."""

from typing import Final

MAX_CELLS: Final = 500
"""Maximum cells of a notebook."""

MAX_CELL_BYTES: Final = 64 * 1024
"""Maximum bytes of a cell's source in UTF-8: its analysis takes at most about a second of a core."""

MAX_NOTEBOOK_BYTES: Final = 768 * 1024
"""Maximum bytes of a notebook: sources, metadata and texts together, in UTF-8."""

MAX_METADATA_BYTES: Final = 64 * 1024
"""Maximum bytes of the metadata of a notebook or a cell, as JSON."""

MAX_METADATA_DEPTH: Final = 32
"""Maximum depth of nested lists and objects in metadata."""

MAX_NAMES: Final = 10_000
"""Maximum names that the cells of a notebook read and define, together."""

MAX_TITLE_CHARACTERS: Final = 256
"""Maximum characters of a notebook's title or a cell's name."""

MAX_EDITS: Final = 1_000
"""Maximum edits of one revision."""

MAX_ANNOTATIONS: Final = 100
"""Maximum annotations of a cell; a further one is a diagnostic."""

MAX_DIAGNOSTICS: Final = 1_000
"""Maximum diagnostics of a notebook; further ones are only counted."""
