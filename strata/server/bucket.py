"""Whether a server could keep results in the configured object store, found out by doing it once."""

from __future__ import annotations

import secrets

import attrs

from strata.artifacts.blobs.object_failures import DENIED, refusal_of
from strata.config import Settings
from strata.config.settings import BUCKETS
from strata.server.stores import CannotOpenError, open_bucket

PROBE_SECONDS = 5.0
"""Longest time of one request of a probe, and of the attempt to connect; there are no retries."""

PROBE = ".strata-check-"
"""Beginning of a probe's key, below the prefix of results; no blob's key has a dot there."""


def check_bucket(settings: Settings) -> str:
    """Write, look at, read and remove an object, and return where. Blocking, for four requests at most.

    Raises:
        CannotOpenError: If one of them is not possible; the message names the setting and no secret.
    """
    setting = BUCKETS[settings.artifact_blob_backend]
    hurried = attrs.evolve(
        settings,
        s3_connect_timeout_seconds=min(PROBE_SECONDS, settings.s3_connect_timeout_seconds),
        s3_request_timeout_seconds=min(PROBE_SECONDS, settings.s3_request_timeout_seconds),
    )
    store, prefix = open_bucket(hurried, retries=0)
    import obstore  # noqa: PLC0415  # an extra

    name = getattr(settings, setting)
    body = secrets.token_bytes(16)
    key = "/".join(filter(None, (prefix.strip("/"), f"{PROBE}{body.hex()}")))
    step, missing, remedy = (
        "written",
        "there is no such bucket",
        "check name, endpoint, region and credentials",
    )
    try:
        obstore.put(store, key, body)
        step, missing = "read after it was written", "what was written is not there"
        size = obstore.head(store, key)["size"]
        found = bytes(obstore.get(store, key).bytes())
        step, remedy = "cleared of a written object", "permit the credentials to delete"
        obstore.delete(store, key)
    except BaseException as error:  # obstore's panics, too; what is not its is raised again
        refused = refusal_of(error)
        if refused is None:
            raise
        # The messages of the client library contain URLs and what the store says, keys among it.
        why = (
            "the credentials are refused"
            if refused == DENIED
            else missing
            if isinstance(error, FileNotFoundError)
            else "the store does not answer as it should"
        )
        raise CannotOpenError(f"{setting}: {name} cannot be {step}: {why}; {remedy}.") from None
    if (size, found) != (len(body), body):
        raise CannotOpenError(f"{setting}: {name} gives other bytes than were written to it.")
    return f"{name}/{prefix.strip('/')} can be written, read and cleared"
