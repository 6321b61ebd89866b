"""Texts are plain: no pronoun without its noun, no metaphor where the field has a term."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "strata"

WORDS = {
    r"whoever|whomever": "name the caller: the client, the principal, the tenant, the operator",
    r"nobody|no one": "name the party, or write it without one: 'no request waits', 'an unknown user'",
    r"somebody|someone": "name the party: another request, another task, a client",
    r"anybody|anyone|everybody|everyone": "name the parties: all tenants, every client, each principal",
    r"those who": "name the parties: waiting requests, refused clients",
    r"so (?:many|much)": "say the number, the unit or the setting",
    r"likewise": "repeat the noun",
    r"the same of": "repeat what it is: 'Maximum connections per peer address'",
    r"the one or the other": "name both, or write 'exactly one of the two'",
    r"(?:is|are|was|were) asked": "name the asker and the request: 'a request for it arrives'",
    r"(?:in|at) hand": "write in progress, held, available",
    r"(?:makes?|made|making) room": "write closes, evicts, frees, removes, with what is removed",
    r"as ever": "write 'as before', or what happens",
    r"(?:says?|said|saying) so": "say what is written where: logs a warning, answers 503",
    r"(?:the|a) (?:desk|crowd|tally|historian)": "write admission queue, connection table, counters, lineage reader",
}
"""What to write instead of each phrase. `Quoted` words and code blocks are not prose."""

NAMES = {
    "House": "ServerContext",
    "Crowd": "ConnectionTable",
    "Tally": "ConnectionCounters",
    "Desk": "AdmissionQueue",
    "Holding": "Tarpit",
    "Vitals": "RuntimeStats",
    "Lane": "RowGroupStream",
    "Historian": "LineageReader",
    "Warmer": "CacheWarmer",
    "Surroundings": "ClientEnvironment",
}
"""What each name of code is called instead."""

PHRASES = [
    (re.compile(rf"\b(?:{pattern.replace(' ', chr(92) + 's+')})\b", re.IGNORECASE), advice)
    for pattern, advice in WORDS.items()
]
NAME = re.compile(rf"\b(?:{'|'.join(NAMES)})\b")
QUOTED = re.compile(r"``[^`]*``|`[^`]*`")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
OPENING = re.compile(r"[A-Z0-9`*]")
"""A capital, a quoted word, or a mark such as ``*Loop.*`` that says where a function runs."""

RIDDLES = ("The same", "What ", "Whether it", "How it")

FOLDERS = sorted({path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")} - {"__pycache__"})


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """Replace matches by spaces; line breaks stay, and with them the numbers of lines."""
    return pattern.sub(lambda match: re.sub(r"\S", " ", match[0]), text)


def _phrases(text: str, first: int) -> Iterator[tuple[int, str]]:
    prose = _blank(QUOTED, text)
    for pattern, advice in PHRASES:
        for match in pattern.finditer(prose):
            line = first + prose.count("\n", 0, match.start())
            yield line, f"'{' '.join(match[0].split())}': {advice}"


def _quoted_names(text: str, first: int) -> Iterator[tuple[int, str]]:
    for quoted in QUOTED.finditer(text):
        for match in NAME.finditer(quoted[0]):
            yield first + text.count("\n", 0, quoted.start()), f"'{match[0]}': write {NAMES[match[0]]}"


def _strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield docstrings and other texts of several words, each with its first line's number."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def _comments(tokens: list[tokenize.TokenInfo]) -> Iterator[tuple[int, str]]:
    """Yield comments, those on consecutive lines as one text."""
    block: list[str] = []
    first = last = 0
    for token in tokens:
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield first, "\n".join(block)
                block, first = [], token.start[0]
            block.append(token.string.lstrip("#! "))
            last = token.start[0]
    yield first, "\n".join(block)


def _summaries(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield what is wrong with the first lines of public docstrings."""
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    for scope in scopes:
        nodes = [
            node
            for node in scope.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        public = [node for node in nodes if not node.name.startswith("_")]
        scopes += [node for node in public if isinstance(node, ast.ClassDef)]
        for node in [scope, *public] if scope is tree else public:
            line, name = (1, "the module") if isinstance(node, ast.Module) else (node.lineno, node.name)
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            if not summary:
                yield line, f"{name} has no docstring"
            elif not OPENING.match(summary) or not summary.endswith("."):
                yield line, f"first line of {name}: begin with a capital and end with a period"
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and summary.startswith(RIDDLES):
                yield line, f"first line of {name}: begin with a verb or a noun, not '{summary.split()[0]}'"


def faults_of_code(source: str) -> list[tuple[int, str]]:
    """Return the faults of a module, with their lines."""
    tree = ast.parse(source)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    texts = [*_strings(tree), *_comments(tokens)]
    names = [token for token in tokens if token.type == tokenize.NAME and token.string in NAMES]
    found = [(token.start[0], f"'{token.string}': write {NAMES[token.string]}") for token in names]
    found += [fault for first, text in texts for fault in _phrases(text, first)]
    found += [fault for first, text in texts for fault in _quoted_names(text, first)]
    return sorted({*found, *_summaries(tree)})


def faults_of_page(text: str) -> list[tuple[int, str]]:
    """Return the faults of a Markdown page, with their lines."""
    prose = _blank(FENCED, text)
    return sorted({*_phrases(prose, 1), *_quoted_names(prose, 1)})


def listed(path: Path, faults: list[tuple[int, str]]) -> list[str]:
    return [f"{path.relative_to(ROOT)}:{line}: {fault}" for line, fault in faults]


@pytest.mark.parametrize("folder", FOLDERS)
def test_code_is_explained_in_plain_words(folder: str) -> None:
    """Docstrings, comments, help texts and errors have no listed phrase; public names have a docstring."""
    place = PACKAGE / folder
    paths = [place] if place.is_file() else sorted(place.rglob("*.py"))
    found = [fault for path in paths for fault in listed(path, faults_of_code(path.read_text()))]
    assert [] == found, "\n".join(found)


def test_pages_are_written_in_plain_words(page: Path) -> None:
    """Pages of docs/, the README and the changelog have no listed phrase."""
    found = listed(page, faults_of_page(page.read_text()))
    assert [] == found, "\n".join(found)


RIDDLE = '''"""Answers."""

LIMIT = 3
"""One in so
many."""


class Desk:
    """Lets in
    whoever comes."""

    def enter(self, most: int) -> None:
        """What enters."""
        # The same
        # of a peer.
        raise ValueError(f"nobody may have {most}")  # `nobody` is a quoted word here


def leave() -> None:
    pass
'''


def test_every_kind_of_text_is_read() -> None:
    """Phrases are found in docstrings, also of constants, comments, errors and names, across lines, and not in quotes."""
    words = [(line, fault.partition(":")[0]) for line, fault in faults_of_code(RIDDLE)]
    assert [
        (4, "'so many'"),
        (8, "'Desk'"),
        (8, "first line of Desk"),
        (10, "'whoever'"),
        (12, "first line of enter"),
        (14, "'The same of'"),
        (16, "'nobody'"),
        (19, "leave has no docstring"),
    ] == words


def test_code_on_a_page_is_not_prose() -> None:
    """Fenced blocks and quoted words pass; quoted former names do not."""
    page = "# Nobody\n\n```bash\necho nobody\n```\n\nThe word `nobody`, and\neverybody. See `Desk.enter`.\n"
    assert [(1, "'Nobody'"), (8, "'Desk'"), (8, "'everybody'")] == [
        (line, fault.partition(":")[0]) for line, fault in faults_of_page(page)
    ]
