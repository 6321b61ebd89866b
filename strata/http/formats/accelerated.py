"""Have the proxy send a finished result: an answer names its file, which nginx sends, or its object.

Who may read what is decided here, request by request, before the file or the object is named. nginx maps the
name of a file to the file in a location that only such an answer can enter (deploy/strata_accel.conf). An
object has a signed address, which nginx fetches from such a location (deploy/strata_objects.conf) and no
client sees; which part of it, is decided here, since the store knows the result by another ETag.
The headers are written in ``answers``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs

from strata.http.api.conditional import ByteRange, Verdict, decide
from strata.http.door.context import Context
from strata.tenants.shared.byte_stream import ByteStream
from strata.tenants.stats.lent_files import LentFiles

REDIRECT: Final = "X-Accel-Redirect"
OBJECT: Final = "X-Strata-Object"
"""Header with the signed address of an object, for nginx."""
OBJECT_RANGE: Final = "X-Strata-Object-Range"
"""Header with the range of the object that nginx asks for; without it, the whole."""

_OURS: Final = frozenset({b"if-match", b"if-unmodified-since"})
"""Preconditions that nginx judges by the file's date, or before it knows the result's ETag."""


@attrs.frozen
class PublishedFiles:
    """The files of results as the proxy names them.

    Attributes:
        prefix: Path of the proxy's internal location.
        root: The directory that it stands for.
        lent: Keeps a file that was named until the proxy has opened it.
    """

    prefix: str
    root: Path
    lent: LentFiles

    def __call__(self, stream: ByteStream) -> str | None:
        """Return the path under which the proxy finds the file of a finished result; None if it has none.

        Small results have none: they are in memory, and sending them is less work than naming them.
        """
        if stream.fd < 0 or stream.stop is None or stream.tail is not None:
            return None
        try:
            place = Path(f"/proc/self/fd/{stream.fd}").readlink()
            inside = place.relative_to(self.root)
        except (OSError, ValueError):  # no such file system, or a file elsewhere
            return None
        if place.suffix == "" or str(inside).endswith(" (deleted)"):
            return None
        if not self.lent.lend((inside.parts[0], inside.stem)):
            return None
        return f"{self.prefix}/{quote(str(inside))}"


def may_sign(found: Context) -> bool:
    """Whether a finished result may be answered by the address of its object.

    Not for a tenant with a limit of bytes a second, which only the server keeps.
    """
    limited = found.meter is not None and found.meter.limited
    return found.registry.resources.signed is not None and not limited


def object_headers(stream: ByteStream, found: Context, etag: str) -> list[tuple[str, str]] | None:
    """Return the headers by which nginx fetches an object or a part of it; None: no byte of it is sent."""
    signed, address, length = found.registry.resources.signed, stream.address, stream.size
    assert signed is not None
    assert address is not None
    assert length is not None
    decision = decide("GET", found.headers, etag, length)
    headers = [(REDIRECT, f"{signed.location}/"), (OBJECT, address)]
    if isinstance(decision, ByteRange):
        return [*headers, (OBJECT_RANGE, f"bytes={decision.begin}-{decision.end - 1}")]
    return headers if decision is Verdict.WHOLE else None


def redirect_of(stream: ByteStream, found: Context) -> str | None:
    """Return where the proxy finds the result that answers a request; None: the server sends it.

    The server sends answers to preconditions that nginx would judge otherwise, and those of a tenant with a
    limit of bytes a second, which only the server keeps.
    """
    resources = found.registry.resources
    if resources.published is None or any(name in _OURS for name, _ in found.headers):
        return None
    if found.meter is not None and found.meter.limited:
        return None
    return resources.published(stream)
