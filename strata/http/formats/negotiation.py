"""Which form of a result a request asks for: by its query, else by ``Accept``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from strata.auth import Headers
from strata.http.api.conditional import prefers
from strata.http.api.query_params import bad_parameter, refuse_unknown, whole
from strata.http.api.responses import ARROW_STREAM
from strata.http.door.routing import joined
from strata.http.formats.writers import WRITERS, ArrowWriter, Writer

ARROW: Final = "arrow"

MEDIA: Final[Mapping[str, str]] = {
    ARROW: ARROW_STREAM,
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
    "jsonl": "application/x-ndjson",
}
"""The formats, with their media types."""

ALIASES: Final[Mapping[str, str]] = {"application/jsonl": "jsonl", "application/parquet": "parquet"}
"""Further media types, with their formats."""

CODECS: Final = ("zstd", "lz4")
"""Codecs of the buffers of an Arrow stream, the preferred one first."""

EXTENSIONS: Final[Mapping[str, str]] = {
    ARROW: "arrows",
    "parquet": "parquet",
    "csv": "csv",
    "jsonl": "jsonl",
}

MAX_LIMIT: Final = 2**53 - 1

RESULT_PARAMETERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "format": {"type": "string", "enum": list(MEDIA), "description": "Goes before Accept."},
    "codecs": {"type": "string", "enum": list(CODECS), "description": "Codec of an Arrow stream's buffers."},
    "limit": {"type": "integer", "minimum": 0, "maximum": MAX_LIMIT, "description": "First rows only."},
    "download": {"type": "string", "enum": ["true", "false"], "default": "false"},
}
"""Query parameters of a result."""

_KNOWN: Final = (*MEDIA.values(), *ALIASES)
_CODECS: Final = re.compile(
    re.escape(ARROW_STREAM) + r'\s*;[^,"]*?\bcodecs\s*=\s*(?:"([^"]*)"|([^\s,;"]+))', re.IGNORECASE
)


@attrs.frozen
class Form:
    """The form of a result.

    Attributes:
        format: A key of :data:`MEDIA`.
        codec: Codec of an Arrow stream's buffers; None for none.
        limit: Rows; None for all.
        download: Whether a browser should keep it as a file.
    """

    format: str = ARROW
    codec: str | None = None
    limit: int | None = None
    download: bool = False

    @property
    def stored(self) -> bool:
        """Whether these are the stored bytes themselves."""
        return self.format == ARROW and self.codec is None and self.limit is None

    @property
    def media(self) -> str:
        """The ``Content-Type``."""
        if self.codec is not None:
            return f"{ARROW_STREAM}; codecs={self.codec}"
        return "text/csv; charset=utf-8; header=present" if self.format == "csv" else MEDIA[self.format]

    @property
    def tag(self) -> str:
        """Name of the form, which differs from that of every other form of the same result."""
        return "-".join(str(part) for part in (self.format, self.codec, self.limit) if part is not None)

    def writer(self) -> Writer:
        """Return a writer of it."""
        return ArrowWriter(self.codec) if self.format == ARROW else WRITERS[self.format]()

    def disposition(self, name: str) -> str:
        """Return the ``Content-Disposition`` of a file of this name, which needs no escapes."""
        return f'attachment; filename="{name}.{EXTENSIONS[self.format]}"'


STORED: Final = Form()


def form_of(headers: Headers, query: Mapping[str, str]) -> Form:
    """Return the form that a request for a result asks for.

    Raises:
        ProblemError: 400, naming the parameter at fault.
    """
    accepted = next((value for name, value in headers if name == b"accept"), b"")
    if not query and accepted in (b"", b"*/*", ARROW_STREAM.encode()):
        return STORED  # as nearly all requests
    refuse_unknown(query, RESULT_PARAMETERS)
    found = query["format"] if "format" in query else _accepted(headers) or ARROW
    if found not in MEDIA:
        raise bad_parameter("format", f"must be one of {', '.join(MEDIA)}")
    codec = _codec(headers, query, found)
    limit = whole(query, "limit", 0, 0, MAX_LIMIT) if "limit" in query else None
    download = query.get("download", "false")
    if download not in ("true", "false"):
        raise bad_parameter("download", "must be true or false")
    return Form(found, codec, limit, download == "true")


def asked_instead(headers: Headers, default: str) -> bool:
    """Return whether ``Accept`` asks for a result in some format rather than for ``default``."""
    text = (joined(headers, b"accept") or "").lower()
    if "/" not in text or text == "*/*":
        return False  # as nearly all requests
    return any(media in text and prefers(headers, media, default) for media in _KNOWN)


def _accepted(headers: Headers) -> str | None:
    """Return the format that ``Accept`` prefers to Arrow; None if it prefers none."""
    named = {media: name for name, media in MEDIA.items() if name != ARROW} | dict(ALIASES)
    found = [media for media in named if prefers(headers, media, ARROW_STREAM)]
    for media in found:
        if all(other == media or prefers(headers, media, other) for other in found):
            return named[media]
    return None


def _codec(headers: Headers, query: Mapping[str, str], asked: str) -> str | None:
    """Return the codec that the query names, else the preferred one of those that ``Accept`` names."""
    text = query.get("codecs")
    if text is not None:
        if text not in CODECS or asked != ARROW:
            raise bad_parameter("codecs", f"must be one of {', '.join(CODECS)}, with the format {ARROW}")
        return text
    match = _CODECS.search(joined(headers, b"accept") or "") if asked == ARROW else None
    if match is None:
        return None
    wanted = {word.strip().lower() for word in (match[1] or match[2] or "").split(",")}
    return next((codec for codec in CODECS if codec in wanted), None)
