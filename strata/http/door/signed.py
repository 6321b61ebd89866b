"""Requests by signed URLs: an executor of the pull model has no identity, and may do what one URL says."""

from __future__ import annotations

import re
from typing import Final

from strata.auth import IdentityRefused
from strata.executor.protocol.pulls import (
    DOWNLOAD,
    DOWNLOAD_PATH,
    FINALIZE,
    LOG,
    UPLOAD,
    UPLOAD_PATH,
    Grant,
)
from strata.executor.protocol.signed_urls import values_of
from strata.http.door.context import Context

BAD_SIGNATURE: Final = IdentityRefused(
    403,
    "The URL's signature is missing or wrong, or the URL has expired.",
    "bad_signature",
    authenticated=False,
)
USED: Final = IdentityRefused(409, "The URL was used before.", "url_used", authenticated=True)

_PATHS: Final = (
    ("GET", re.compile(re.escape(DOWNLOAD_PATH)), DOWNLOAD),
    ("HEAD", re.compile(re.escape(DOWNLOAD_PATH)), "nothing"),  # a URL is used up by what it is for alone
    ("POST", re.compile(re.escape(UPLOAD_PATH)), UPLOAD),
    ("POST", re.compile(f"/v1/builds/([A-Za-z0-9_-]{{1,128}})/({FINALIZE}|{LOG})"), ""),
)


def redeem(found: Context, method: str) -> Grant | IdentityRefused | None:
    """Use a signed URL up and note what it permits; None where the path has none.

    What else a request says of its sender counts for nothing on these paths. A refusal of a wrong signature
    counts as a failed authentication.
    """
    for verb, path, op in _PATHS:
        match = path.fullmatch(found.path) if verb == method else None
        if match is None:
            continue
        build_id, asked = match.groups() or (None, op)
        values = values_of(found.query)
        if values is None:
            return BAD_SIGNATURE
        grant = found.registry.resources.transforms.pulls.redeem(asked, build_id, values)
        if isinstance(grant, Grant):
            found.grant = grant
            return grant
        return USED if grant else BAD_SIGNATURE
    return None
