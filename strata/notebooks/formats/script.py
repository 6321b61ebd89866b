"""A notebook as a plain Python script: cells in order, marked as editors read them (``# %%``)."""

from __future__ import annotations

from collections.abc import Iterator

from strata.notebooks.model.notebook import Cell, Content, Language


def write_script(content: Content) -> str:
    """Return a content as a script; Markdown and SQL cells are comments in it."""
    parts = [f"# {content.title}"]
    parts += ["\n".join(_lines(cell)) for cell in content.cells]
    return "\n\n".join(parts) + "\n"


def _lines(cell: Cell) -> Iterator[str]:
    kind = "" if cell.language is Language.PYTHON else f" [{cell.language.value}]"
    # A name is one line of printable characters, so it cannot end the comment.
    yield f"# %%{kind}" + (f" {cell.name}" if cell.name else "")
    # Lines end where Python's own end: a form feed or U+2028 in a comment ends nothing there.
    for line in cell.source.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        yield line if cell.language is Language.PYTHON else f"# {line}".rstrip()
