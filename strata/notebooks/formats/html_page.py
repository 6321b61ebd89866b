"""A notebook as a static HTML page. All texts are escaped: nothing that a cell contains is HTML or runs.

Of Markdown, headings, lists, paragraphs and code blocks are laid out; everything inside of a line is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Final

from strata.notebooks.model.notebook import Cell, Content, Language

CONTENT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The page's content security policy: it loads nothing and runs nothing, whatever is in it."""

_STYLE: Final = (
    "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#f4f4f4;padding:.75rem;overflow:auto}"
    ".name{color:#555;font-size:.85rem;margin:1rem 0 .25rem}"
)
_HEADING: Final = re.compile(r"(#{1,6})[ \t]+(.*)")
_ITEM: Final = re.compile(r"[ \t]{0,3}[-*+][ \t]+(.*)")
_FENCE: Final = re.compile(r"[ \t]{0,3}(```+|~~~+)")


def write_html(content: Content) -> str:
    """Return a content as an HTML page."""
    title = escape(content.title)
    cells = "\n".join(_cell(cell) for cell in content.cells)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(CONTENT_POLICY)}">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{cells}\n"
        "</body>\n</html>\n"
    )


def _cell(cell: Cell) -> str:
    if cell.language is Language.MARKDOWN:
        return "<section>\n" + "\n".join(_blocks(cell.source.splitlines())) + "\n</section>"
    name = f": {escape(cell.name)}" if cell.name else ""
    return (
        f'<section>\n<p class="name">{escape(cell.language.value)}{name}</p>\n'
        f"<pre><code>{escape(cell.source)}</code></pre>\n</section>"
    )


def _blocks(lines: list[str]) -> Iterator[str]:
    """Yield the blocks of a Markdown text."""
    paragraph: list[str] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        heading, item, fence = _HEADING.match(line), _ITEM.match(line), _FENCE.match(line)
        if (heading or item or fence or not line.strip()) and paragraph:
            yield f"<p>{escape(' '.join(paragraph))}</p>"
            paragraph = []
        if heading:
            level = min(len(heading[1]) + 1, 6)  # the title is the page's only h1
            yield f"<h{level}>{escape(heading[2])}</h{level}>"
        elif fence:
            end = place + 1
            while end < len(lines) and not lines[end].strip().startswith(fence[1]):
                end += 1
            code = "\n".join(lines[place + 1 : end])
            yield f"<pre><code>{escape(code)}</code></pre>"
            place = end
        elif item:
            end = place
            while end < len(lines) and _ITEM.match(lines[end]):
                end += 1
            items = (_ITEM.sub(r"\1", one) for one in lines[place:end])
            yield "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in items) + "</ul>"
            place = end - 1
        elif line.strip():
            paragraph.append(line.strip())
        place += 1
    if paragraph:
        yield f"<p>{escape(' '.join(paragraph))}</p>"
