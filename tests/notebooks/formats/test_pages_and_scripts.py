"""HTML pages and scripts: nothing that a cell contains becomes markup, and scripts compile."""

from __future__ import annotations

import ast
from html.parser import HTMLParser

import pytest

from strata.notebooks.formats.html_page import write_html
from strata.notebooks.formats.script import write_script
from strata.notebooks.model.notebook import Cell, Content, Language

ATTACKS = (
    "<script>alert(1)</script>", "</code></pre><script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))", '![a](x" onerror="alert(1))', "&lt;script&gt;", "<!-- --><svg onload=alert(1)>",
    "```\n</pre><script>1</script>\n```", "# <script>1</script>", "- <iframe src=//x>", "</title><script>1</script>",
    "<style>*{}</style>", "\"'><a href=\"javascript:1\">", "~~~\n<b>\n", "</section></body><script>1</script>",
)  # fmt: skip


class Tags(HTMLParser):
    """Collects the tags and attributes of a page, and its texts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_comment(self, data) -> None:
        raise AssertionError(data)

    def handle_data(self, data) -> None:
        self.texts.append(data)


def tags_of(content: Content) -> Tags:
    found = Tags()
    found.feed(write_html(content))
    found.close()
    return found


SAFE = {
    ("html", ("lang",)), ("head", ()), ("meta", ("charset",)), ("meta", ("http-equiv", "content")), ("title", ()),
    ("style", ()), ("body", ()), ("section", ()), ("p", ("class",)), ("p", ()), ("pre", ()), ("code", ()), ("ul", ()),
    ("li", ()), *((f"h{level}", ()) for level in range(1, 7)),
}  # fmt: skip


@pytest.mark.parametrize("language", list(Language))
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_of_a_cell_is_markup(attack: str, language: Language) -> None:
    """Sources, names and titles with HTML, scripts or links have no tag or attribute in the page."""
    name = attack.replace("\n", " ")
    found = tags_of(Content(title=name, cells=(Cell(id="a", language=language, source=attack, name=name),)))
    assert set(found.tags) <= SAFE, found.tags
    assert 1 == sum(tag == "style" for tag, _ in found.tags)
    assert name in found.texts


def test_markdown_is_laid_out() -> None:
    """Headings, lists, paragraphs and code blocks have their tags, and all of the text is there."""
    source = (
        "# One\nfirst\nsecond\n\n- a\n* b\n```python\nx < 1\n# no heading\n```\n###### Six\nend\n~~~\nopen"
    )
    found = tags_of(Content(title="T", cells=(Cell(id="a", language=Language.MARKDOWN, source=source),)))
    inside = [tag for tag, _ in found.tags][[tag for tag, _ in found.tags].index("section") + 1 :]
    assert ["h2", "p", "ul", "li", "li", "pre", "code", "h6", "p", "pre", "code"] == inside
    texts = [text for text in found.texts if text.strip()]
    assert ["One", "first second", "a", "b", "x < 1\n# no heading", "Six", "end", "open"] == texts[3:]


def test_the_page_forbids_what_it_does_not_need() -> None:
    """Its own policy loads nothing and runs nothing."""
    assert "default-src &#x27;none&#x27;" in write_html(Content(title="T"))


def test_a_script_has_the_cells_in_order() -> None:
    """Python cells are code, other cells are comments, and only code is executed."""
    content = Content(
        title="A 'title'",
        cells=(
            Cell(id="a", source="x = 1\n"),
            Cell(id="b", language=Language.MARKDOWN, source="# T\rimport os\r\nos.abort()\n"),
            Cell(id="c", language=Language.SQL, source="SELECT 1\nFROM t", name="top"),
            Cell(id="d", source="y = x + 1", name="last"),
        ),
    )
    script = write_script(content)
    assert (
        "# A 'title'\n\n# %%\nx = 1\n\n\n# %% [markdown]\n# # T\n# import os\n# os.abort()\n#\n\n# %% [sql] top\n"
        "# SELECT 1\n# FROM t\n\n# %% last\ny = x + 1\n"
    ) == script
    assert 2 == len(ast.parse(script).body)
