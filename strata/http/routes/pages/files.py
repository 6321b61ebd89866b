"""The pages as they were built: one document, and the files that it loads.

The addresses of all pages are one level below the root (``ui/data``), and those of files and of the API are
relative to them, so that they work behind any path that a proxy puts before them.
"""

from __future__ import annotations

from quart_schema import hide

from strata.http.door.error_pages import wants_page
from strata.http.door.routing import Answer, Call, joined
from strata.http.problems import Problem, ProblemError
from strata.ui import PageFile, Pages, installed_pages

NAMES = frozenset(
    {"api", "console", "data", "me", "name", "notebook", "notebooks", "result", "results", "table", "tenant"}
)
"""The pages, by the last part of their address."""

FIRST = "ui/data"
"""The page that ``/`` leads to."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
"""What a browser lets the pages do: nothing inline, nothing from elsewhere, no text made HTML or code."""

_GUARDED = (
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)

IMMUTABLE = "private, max-age=31536000, immutable"
"""How long browsers keep a file whose name has a hash of its content: as long as they like."""

NO_PATH = Problem(404, "No such path")

NOT_BUILT = Problem(
    404,
    "This server was built without its pages, for npm's registry was not reached, or "
    "HATCH_BUILD_STRATA_PAGES was set to no. The API is complete, and /docs describes it. To have the pages, "
    "install Strata again where npm's registry is reached.",
    "pages_not_built",
)


@hide
async def home(call: Call) -> Answer:
    """Lead a browser to the first page; to a program, ``/`` is no path."""
    if not wants_page(call.headers):
        raise ProblemError(NO_PATH)
    _pages()
    return Answer((("Location", FIRST), ("Cache-Control", "no-store"), ("Vary", "Accept")), b"", status=303)


@hide
async def page(call: Call) -> Answer:
    """Answer with the document of a page."""
    if call.parts["name"] not in NAMES:
        raise ProblemError(NO_PATH)
    return _file(_pages().document, call, "no-cache", _GUARDED)


@hide
async def asset(call: Call) -> Answer:
    """Answer with a file that the document loads."""
    pages = installed_pages()
    found = None if pages is None else pages.assets.get(call.parts["name"])
    if found is None:
        raise ProblemError(NO_PATH)
    return _file(found, call, IMMUTABLE)


def _pages() -> Pages:
    """Return the pages.

    Raises:
        ProblemError: 404 if the server was built without them.
    """
    found = installed_pages()
    if found is None:
        raise ProblemError(NOT_BUILT)
    return found


def _file(found: PageFile, call: Call, cache: str, guarded: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Answer with a file, compressed if the request accepts gzip."""
    headers = [("Content-Type", found.kind), ("Cache-Control", cache), ("Vary", "Accept-Encoding"), *guarded]
    if found.compressed is not None and _takes_gzip(call):
        return Answer((*headers, ("Content-Encoding", "gzip")), found.compressed)
    return Answer(headers, found.content)


def _takes_gzip(call: Call) -> bool:
    for part in (joined(call.headers, b"accept-encoding") or "").split(","):
        coding, _, weight = part.strip().lower().partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
