"""Create and read the secret of a metadata store, with which ids and digests of results are made.

Replicas on one database share it. It is never logged, and never leaves the server but inside of an HMAC.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from strata.artifacts.database.migrate import exclude_others
from strata.artifacts.database.schema import store_secrets

SECRET_BYTES = 32
"""Bytes of the secret: as many as a SHA-256, so that guessing the secret is no easier than guessing an id."""

_ONLY = 1


def store_secret(engine: sa.Engine) -> bytes:
    """Return the secret of a store; the first call creates it.

    Args:
        engine: An engine with transactions that exclude other writers from their first statement on.
    """
    with engine.begin() as connection:
        exclude_others(connection)
        found = connection.scalar(sa.select(store_secrets.c.secret).where(store_secrets.c.id == _ONLY))
        if found is None:
            found = secrets.token_bytes(SECRET_BYTES)
            connection.execute(store_secrets.insert().values(id=_ONLY, secret=found))
        return bytes(found)
