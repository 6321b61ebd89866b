"""Grammar of resources, of patterns over them, and of the names in a rule.

A resource is a path of segments: ``tables/<catalog>/<namespace>/<table>``, ``artifacts/<name>``,
``transforms/<ref>``, ``streams/<id>``, ``notebooks/<id>``, ``admin/<what>``. Inside a segment ``%``, ``/``
and ``*`` are written ``%25``, ``%2F`` and ``%2A``, in resources and in patterns, and both are compared
after decoding. So a table *named* ``*`` or ``a/b`` is matched as that name, never as a pattern.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import attrs

T = TypeVar("T")

#: The possible first segments of a resource.
KINDS: Final = ("tables", "artifacts", "transforms", "streams", "notebooks", "admin")

#: Number of segments of ``tables/<catalog>/<namespace>/<table>``.
TABLE_SEGMENTS: Final = 4

#: Number of segments of ``tables/<namespace>/<table>``, the short form in a configuration file.
SHORT_TABLE_SEGMENTS: Final = 3

MAX_PRINCIPAL_CHARACTERS: Final = 256

PLACEHOLDER_PRINCIPALS: Final = frozenset({"(null)", "-", "None", "null", "nil", "undefined"})
"""What proxies and scripts write for a user that they do not have; as a principal, all such users are one."""

MAX_RESOURCE_CHARACTERS: Final = 4096
"""Maximum characters of a resource or a pattern, escapes included: a longer resource is malformed, so it is
denied, and a longer pattern is refused. The longest name of a result has 512 characters, escaped 1,536."""

MAX_SEGMENTS: Final = 260
"""Maximum segments of a resource or a pattern; beyond, as above. The longest name of a result has 256."""

MAX_DEPTH_WILDCARDS: Final = 8
"""Maximum ``**`` of a pattern: a pattern with more is refused."""

_ESCAPES: Final = str.maketrans({"%": "%25", "/": "%2F", "*": "%2A"})
_ESCAPED: Final = re.compile(r"%(25|2F|2A)?")
_TENANT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_SCOPE: Final = re.compile(r"[!#-+\--\[\]-~]{1,128}")

#: One segment of a pattern: the literal texts between its ``*``; a single text is a segment without ``*``.
_Segment = tuple[str, ...]
_ANY_DEPTH: Final[_Segment] = ()


def resource_name(kind: str, *segments: str) -> str:
    """Return a resource with escaped segments.

    Args:
        kind: One of :data:`KINDS`.
        segments: The names below it; a table's namespace is one segment with its levels joined by dots.

    Raises:
        ValueError: If the kind is unknown or a segment is empty or missing.
    """
    if kind not in KINDS or not segments or not all(segments):
        raise ValueError("a resource is a known kind and at least one segment, none of them empty")
    return "/".join((kind, *(segment.translate(_ESCAPES) for segment in segments)))


def split_resource(resource: str) -> tuple[str, ...] | None:
    """Return the decoded segments of a resource, or ``None`` if it is malformed.

    Well-formed means a known kind, no empty segment, no stray ``%``, four segments for a table, and at most
    :data:`MAX_RESOURCE_CHARACTERS` and :data:`MAX_SEGMENTS`. A malformed resource must be denied: a name that
    can be split in two ways must not choose its rule.
    """
    if len(resource) > MAX_RESOURCE_CHARACTERS:
        return None
    parts = resource.split("/")
    if parts[0] not in KINDS or not 1 < len(parts) <= MAX_SEGMENTS:
        return None
    if parts[0] == "tables" and len(parts) != TABLE_SEGMENTS:
        return None
    decoded = parts if "%" not in resource else [_decode(part) for part in parts]
    return None if not all(decoded) else tuple(part for part in decoded if part)


def _decode(text: str) -> str | None:
    """Undo the escapes of one segment; ``None`` if a ``%`` begins no escape."""
    if "%" not in text:
        return text
    stray = False

    def original(match: re.Match[str]) -> str:
        nonlocal stray
        stray = stray or match[1] is None
        return chr(int(match[1] or "25", 16))

    decoded = _ESCAPED.sub(original, text)
    return None if stray else decoded


@attrs.frozen
class ResourcePattern:
    """A pattern over whole resources.

    ``*`` matches any characters of one segment, ``**`` (alone between slashes) any number of whole segments,
    none included. All other characters match themselves, case-sensitively.

    Attributes:
        text: The pattern as written.
        segments: The compiled form: for each segment the decoded texts between its ``*``; ``**`` is an empty
            tuple.
    """

    text: str
    segments: tuple[_Segment, ...] = attrs.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> ResourcePattern:
        """Compile a pattern.

        Raises:
            ValueError: If the pattern is malformed, matches nothing or can be read in two ways; one sentence
                with, where possible, what to write instead.
        """
        parts = text.split("/")
        problem = _shape_problem(text, parts)
        if problem is not None:
            raise ValueError(problem)
        return cls(text, tuple(_compile_segment(text, part) for part in parts))

    def matches(self, resource: tuple[str, ...]) -> bool:
        """Test whether the pattern matches the decoded segments of a resource (:func:`split_resource`)."""
        return matches_in_order(self.segments, resource, segment_matches)


def matches_in_order(
    pattern: tuple[_Segment, ...], items: Sequence[T], test: Callable[[_Segment, T], bool]
) -> bool:
    """Test whether the segments of a pattern match all items, in order; ``**`` matches any number of items.

    Only the last ``**`` is ever tried again, so the work is at most segments times items.
    """
    at = 0
    item = 0
    resume_at: int | None = None  # the segment after the last `**` …
    resume_item = 0  # … and the end of the run that `**` covers so far
    while item < len(items):
        if at < len(pattern) and pattern[at] == _ANY_DEPTH:
            resume_at, resume_item = at + 1, item
            at += 1
        elif at < len(pattern) and test(pattern[at], items[item]):
            at += 1
            item += 1
        elif resume_at is not None:
            resume_item += 1
            at, item = resume_at, resume_item
        else:
            return False
    return all(segment == _ANY_DEPTH for segment in pattern[at:])


def _compile_segment(text: str, part: str) -> _Segment:
    if part == "**":
        return _ANY_DEPTH
    if "**" in part:
        raise ValueError(f"{text!r}: `**` must stand alone between slashes")
    literals = tuple(_decode(literal) for literal in part.split("*"))
    if None in literals:
        raise ValueError(f"{text!r}: write % as %25, a slash inside a name as %2F and a literal * as %2A")
    return tuple(literal for literal in literals if literal is not None)


def segment_matches(literals: _Segment, text: str) -> bool:
    """Test whether one segment of a pattern matches a text.

    The first and last literal are at the ends of the text, the others in order between them.
    """
    if len(literals) == 1:
        return literals[0] == text
    first, last = literals[0], literals[-1]
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for literal in literals[1:-1]:
        found = text.find(literal, at, end)
        if found < 0:
            return False
        at = found + len(literal)
    return True


def _shape_problem(text: str, parts: list[str]) -> str | None:
    """Return why a pattern cannot match anything or can be read in two ways, or ``None``."""
    kind = parts[0]
    if len(text) > MAX_RESOURCE_CHARACTERS:
        return f"{text[:80]!r}…: a pattern has at most {MAX_RESOURCE_CHARACTERS} characters"
    if len(parts) > MAX_SEGMENTS:
        return f"{text[:80]!r}…: a pattern has at most {MAX_SEGMENTS} segments"
    if parts.count("**") > MAX_DEPTH_WILDCARDS:
        return f"{text!r}: a pattern has at most {MAX_DEPTH_WILDCARDS} `**`"
    if not all(parts):
        return f"{text!r}: a segment is empty; remove the extra slash"
    if kind == "**":
        return None
    if "*" in kind:
        return f"{text!r}: the first segment must be one of {', '.join(KINDS)}, or `**` for everything"
    if kind not in KINDS:
        return f"{text!r}: unknown kind {kind!r}; the kinds are {', '.join(KINDS)}"
    if len(parts) == 1:
        return f"{text!r}: names no resource; write '{kind}/**' for everything under it"
    return _table_shape_problem(text, parts[1:]) if kind == "tables" else None


def _table_shape_problem(text: str, parts: list[str]) -> str | None:
    named = [part for part in parts if part != "**"]
    if len(parts) == 2 and parts[1] == "**" and parts[0] not in {"*", "**"}:  # noqa: PLR2004 - `tables/x/**`
        return (
            f"{text!r} can be read as a catalog or as a namespace; write 'tables/{parts[0]}/*/*' for every "
            f"table of the catalog, or 'tables/*/{parts[0]}/*' for that namespace in every catalog"
        )
    if len(named) >= TABLE_SEGMENTS:
        return f"{text!r}: a table is tables/<catalog>/<namespace>/<table>, nested namespaces joined by dots"
    if len(named) < len(parts) or len(parts) == TABLE_SEGMENTS - 1:
        return None
    if len(parts) == SHORT_TABLE_SEGMENTS - 1:
        return f"{text!r} leaves out the catalog; write 'tables/<catalog>/{'/'.join(parts)}'"
    return f"{text!r} names no table; write 'tables/<catalog>/<namespace>/<table>', or 'tables/**' for all"


def fold_domain(principal: str) -> str:
    """Return a principal with the mail domain after its last ``@`` in lower case.

    Mail domains have no letter case (RFC 5321, section 2.4): without this, ``ann@EXAMPLE.com`` would pass a
    rule that denies ``*@example.com``. All else of a principal is compared exactly.
    """
    name, at, domain = principal.rpartition("@")
    return f"{name}@{domain.lower()}" if at else principal


def caller_problem(principal: str, tenant: str, scopes: Iterable[str]) -> str | None:
    """Return why no caller can have this id, tenant and scopes, or ``None``."""
    wrong = id_problem(principal) or tenant_problem(tenant)
    return wrong or next(filter(None, map(scope_problem, sorted(scopes))), None)


def id_problem(text: str) -> str | None:
    """Return what is wrong with a caller's exact id, or ``None``."""
    if not text or len(text) > MAX_PRINCIPAL_CHARACTERS or text != text.strip() or not text.isprintable():
        return (
            f"principal {text[:80]!r}: must be 1 to {MAX_PRINCIPAL_CHARACTERS} printable characters "
            "with no spaces around"
        )
    if not unicodedata.is_normalized("NFC", text):
        return f"principal {text!r}: not in Unicode NFC, so no caller can have this id"
    return None


def principal_problem(text: str) -> str | None:
    """Return what is wrong with a rule's principal (an exact id, ``*@domain`` or ``*``), or ``None``."""
    wrong = id_problem(text)
    if wrong is not None:
        return wrong
    body = text.removeprefix("*@")
    if text != "*" and ("*" in body or not body or (text.startswith("*@") and "@" in body)):
        return f"principal {text!r}: a wildcard is `*` for every caller or `*@domain` for one mail domain"
    return None


def principal_matches(pattern: str, principal: str) -> bool:
    """Test whether a rule's principal matches a caller, both as :func:`fold_domain` writes them.

    ``*@domain`` requires a name before the ``@``.
    """
    if pattern == "*":
        return True
    if pattern.startswith("*@"):
        name, _, domain = principal.rpartition("@")
        return bool(name) and domain == pattern[2:]
    return pattern == principal


def tenant_problem(text: str) -> str | None:
    """Return what is wrong with a rule's tenant (one exact id, no wildcard), or ``None``."""
    if _TENANT.fullmatch(text):
        return None
    return f"tenant {text[:80]!r}: 1 to 64 of A-Z a-z 0-9 _ - ; leave `tenant` out for every tenant"


def scope_problem(text: str) -> str | None:
    """Return what is wrong with a rule's scope (one scope, or a family), or ``None``."""
    if not _SCOPE.fullmatch(text):
        return f"scope {text[:80]!r}: one scope of 1 to 128 printable ASCII characters, no spaces or commas"
    if "*" in text and text not in SCOPE_FAMILIES:
        return f"scope {text!r}: the only families of scopes are {' and '.join(SCOPE_FAMILIES)}"
    return None


#: Families: holding the scope on the left satisfies every scope that begins with the prefix on the right.
SCOPE_FAMILIES: Final = {"admin:*": "admin:", "notebook:*": "notebook:"}


def holds_scope(held: frozenset[str], wanted: str) -> bool:
    """Test whether the held scopes satisfy the wanted one, exactly or by its family.

    A family works one way: ``notebook:*`` satisfies ``notebook:write``, but all single notebook scopes do not
    satisfy ``notebook:*``.
    """
    if wanted in held:
        return True
    return any(family in held and wanted.startswith(prefix) for family, prefix in SCOPE_FAMILIES.items())
