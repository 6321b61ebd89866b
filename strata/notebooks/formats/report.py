"""What an import could not keep, and whether it could be made at all."""

from __future__ import annotations

from typing import Any, Final

import attrs

from strata.notebooks.model.notebook import Content

MAX_LINES: Final = 200
"""Maximum lines of a report; further ones are only counted."""

OWN: Final = "strata"
"""Key of metadata for what a format has no place for."""


class NotANotebookError(ValueError):
    """The file is no notebook of its format; the message tells its author why, in one or two sentences."""


@attrs.frozen
class Line:
    """Something that was not kept as it was, or needs a change.

    Attributes:
        code: Stable machine-readable word.
        message: One sentence.
        cell: Place of the cell in the file, from 1; ``None``: the whole notebook.
    """

    code: str
    message: str
    cell: int | None = None


@attrs.define
class Report:
    """The report of an import.

    Attributes:
        lines: What was not kept.
        left_out: Number of further lines.
    """

    lines: list[Line] = attrs.field(factory=list)
    left_out: int = 0

    def say(self, code: str, message: str, cell: int | None = None) -> None:
        """Add a line, if there is a place for it."""
        if len(self.lines) < MAX_LINES:
            self.lines.append(Line(code, message, cell))
        else:
            self.left_out += 1


@attrs.frozen
class Imported:
    """A notebook made of a file. The caller checks its content (``check_content``)."""

    content: Content
    report: Report


def own_part(metadata: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return metadata without the part of :data:`OWN`, and that part."""
    rest = {key: value for key, value in metadata.items() if key != OWN}
    own = metadata.get(OWN)
    return rest, dict(own) if isinstance(own, dict) else {}
