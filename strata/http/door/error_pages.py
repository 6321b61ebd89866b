"""Problems as pages, for browsers that ask for one; programs get JSON (``strata.http.problems``).

A page needs nothing else from the server: it may be the answer to one who may load nothing. It holds what the
JSON has: the sentence, the request's id, and the way out.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from http import HTTPStatus

from strata.auth import Headers
from strata.http.door.context import Context
from strata.http.problems import Problem

STYLE = """
:root{color-scheme:light dark;--ink:light-dark(#182026,#e4e9eb);--quiet:light-dark(#55626b,#9eabb2);
--accent:light-dark(#0b645d,#5ccfc3)}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:light-dark(#f6f7f8,#111517);
color:var(--ink);font:16px/1.6 system-ui,sans-serif}
main{box-sizing:border-box;width:min(40rem,100vw);padding:2rem 1.5rem}
h1{margin:0 0 .5rem;font-size:1.6rem;line-height:1.25}
p{margin:0 0 1rem;overflow-wrap:anywhere}
.status{color:var(--quiet);font-weight:600}
.quiet{color:var(--quiet);font-size:.92rem}
code{font-family:ui-monospace,monospace;font-size:.9em}
a{color:var(--accent)}
nav a{display:inline-block;margin-right:1.25rem;padding:.4rem 0}
"""

_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

POLICY = f"{_NOTHING}; style-src 'sha256-{_HASH}'"
"""What a browser lets the page do: have this one style."""

_HTML = re.compile(r"\s*text/html\s*(?:;(?P<rest>.*))?", re.IGNORECASE)
_REFUSED = re.compile(r";?\s*q\s*=\s*0(?:\.0*)?\s*(?:;|$)", re.IGNORECASE)

HINTS = {
    HTTPStatus.UNAUTHORIZED: "A proxy in front of this server signs users in, and states who you "
    "are. Sign in there, and open this server under the proxy's address. If you did, the proxy does not send "
    "what the server needs: its token, your principal, and your tenant.",
    HTTPStatus.FORBIDDEN: "The page Me shows who you are to this server, what you may do, and what not.",
    HTTPStatus.NOT_FOUND: "It does not exist, or it is not for you: the answer is the same for both.",
    HTTPStatus.TOO_MANY_REQUESTS: "A limit of you or your team is reached for the moment.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The server starts, stops or has too much to do. Nothing was lost.",
}
"""The way out, by status."""


def wants_page(headers: Headers) -> bool:
    """Return whether a request's ``Accept`` names ``text/html``, as those of browsers do that open a page."""
    for name, value in headers:
        if name == b"accept":
            for part in value.decode("latin-1").split(","):
                match = _HTML.fullmatch(part)
                if match is not None and not _REFUSED.search(match["rest"] or ""):
                    return True
    return False


def rendered(problem: Problem, context: Context) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and the body of a problem, in the form that its request takes."""
    pairs = problem.header_pairs()
    if not wants_page(context.headers):
        return pairs, problem.body(context.request_id)
    kept = [pair for pair in pairs if pair[0] != "Content-Type"]
    kept += [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", POLICY)]
    return kept, page(problem, context).encode()


def page(problem: Problem, context: Context) -> str:
    """Return the page of a problem; all text in it is escaped."""
    status = HTTPStatus(problem.status)
    # Relative, for a proxy may have put a path before this one.
    root = "../" * max(0, context.path.count("/") - 1) or "./"
    faults = "".join(f"<li>{escape(str(one['msg']))}</li>" for one in problem.errors)
    wait = f" Try again in {problem.retry_after} s." if problem.retry_after else ""
    hint = escape(HINTS.get(status, "")) + wait
    ways = (
        f'<nav><a href="{root}ui/data">Data</a><a href="{root}ui/me">Me</a></nav>'
        if status != HTTPStatus.UNAUTHORIZED and problem.error != "pages_not_built"
        else ""
    )
    request = escape(context.request_id)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{problem.status} {status.phrase}</title>"
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>'
        f'<body><main><p class="status">{problem.status} {status.phrase}</p>'
        f"<h1>{escape(problem.detail)}</h1>{f'<ul>{faults}</ul>' if faults else ''}"
        f"{f'<p>{hint.strip()}</p>' if hint.strip() else ''}{ways}"
        f'<p class="quiet">Request <code>{request}</code>; the log has it under this id.'
        "</p></main></body></html>"
    )
