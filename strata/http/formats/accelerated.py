"""Have the proxy send a finished local result: an answer names its file, which nginx sends by ``sendfile``.

Who may read what is decided here, request by request, before the file is named. nginx maps the name to the
file in a location that only such an answer can enter (deploy/strata_accel.conf).
The header is written in ``answers``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs

from strata.http.door.context import Context
from strata.tenants.shared.byte_stream import ByteStream
from strata.tenants.stats.lent_files import LentFiles

REDIRECT: Final = "X-Accel-Redirect"

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
