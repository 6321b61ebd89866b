"""Results as inputs of further results: their URIs, and what they were made from, down to the tables.

The version of such an input is the hash of its bytes and, after a space, a JSON list of all that it was made
from. So the rights to a result can be decided by the tables behind it, also when a result between them was
removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from strata.artifacts import ArtifactRecord, canonical_json
from strata.outcomes import Reason, RefusalError, Refused

SCHEME: Final = "strata://"
_ARTIFACT: Final = re.compile(r"strata://artifact/([^/@?#]+)@v=([1-9][0-9]{0,17})")
_NAME: Final = re.compile(r"strata://name/(.+)")

MOST_ORIGINS: Final = 256
"""Most results and tables behind one result, on each of which the rules decide; a further one is refused."""

TOO_MANY: Final = Refused(
    Reason.TOO_LARGE,
    f"This result would be made from more than {MOST_ORIGINS} tables and results.",
    "too_many_origins",
    loc=("body", "inputs"),
)


def artifact_of(uri: str) -> tuple[str, int] | None:
    """Return the id and version of an artifact's URI; None for any other URI."""
    found = _ARTIFACT.fullmatch(uri)
    return None if found is None else (found[1], int(found[2]))


def name_of(uri: str) -> str | None:
    """Return the name in a URI of a name; None for any other URI."""
    found = _NAME.fullmatch(uri)
    return None if found is None else found[1]


def uri_of(artifact_id: str, version: int) -> str:
    """Return the URI of an artifact's version."""
    return f"strata://artifact/{artifact_id}@v={version}"


def input_version(record: ArtifactRecord) -> str:
    """Return the version of a finished result as an input.

    Raises:
        RefusalError: TOO_LARGE if it was made from more than :data:`MOST_ORIGINS` tables and results.
    """
    origins = dict.fromkeys(all_inputs(record.inputs))
    if len(origins) > MOST_ORIGINS:
        raise RefusalError(TOO_MANY)
    return f"{record.content_sha256} {canonical_json([list(pair) for pair in origins])}"


def shown_version(uri: str, version: str) -> str:
    """Return the version of an input without what it was made from."""
    return version.partition(" ")[0] if uri.startswith(SCHEME) else version


def all_inputs(inputs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the URI and version of each input, and of all that the inputs were made from."""
    for uri, version in inputs.items():
        if not uri.startswith(SCHEME):
            yield uri, version
            continue
        digest, _, origins = version.partition(" ")
        yield uri, digest
        yield from (tuple(pair) for pair in (json.loads(origins) if origins else ()))
