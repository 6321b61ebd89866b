"""Keep the clients of one catalog, one for each caller, at most a fixed number of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs
from cachetools import LRUCache
from requests.adapters import HTTPAdapter

from strata.config.fields import TOKEN_EXCHANGE, CatalogCallers
from strata.tables.callers.identity import Caller, header_value
from strata.tables.callers.token_exchange import ExchangedToken

T = TypeVar("T")

KEPT: Final = 256
"""Callers of a catalog whose client, with its token, is kept; the one that asked least recently goes, and its
next request begins anew."""

CONNECTIONS: Final = 8
"""Connections to a catalog that its callers' clients keep open together: as many as threads ask it."""


class SharedConnections(HTTPAdapter):
    """Connections that outlive each client: an open one per caller would use up descriptors."""

    def __init__(self) -> None:
        super().__init__(pool_connections=4, pool_maxsize=CONNECTIONS)

    def close(self) -> None:
        """Do nothing: the clients of other callers use the connections."""

    def close_all(self) -> None:
        """Close idle connections."""
        super().close()


class ForeignAdapterError(Exception):
    """A client sends requests in a way of its own, such as signed as the server's (AWS Signature 4)."""


@attrs.frozen(eq=False)
class AsCaller:
    """Makes the requests of one client those of a caller.

    Attributes:
        settings: How the operator has the identity passed on.
        token: The caller's token; None: the identity is in a header.
        identity: The caller's identity.
        connections: The connections to the catalog.
    """

    settings: CatalogCallers
    token: ExchangedToken | None
    identity: str
    connections: SharedConnections

    def prepare(self, session: Any) -> None:
        """Set how a session (of :mod:`requests`) sends its requests.

        Raises:
            ForeignAdapterError: If requests to some address would be sent otherwise. Settings of pyiceberg's
                own (its environment variables, its file) may ask for that, too.
        """
        session.mount("http://", self.connections)
        session.mount("https://", self.connections)
        if any(one is not self.connections for one in session.adapters.values()):
            raise ForeignAdapterError("the catalog's requests would not be its caller's")
        if self.token is None:
            session.headers[self.settings.header] = header_value(self.identity)
        else:
            session.auth = self.token


class CallersClients:
    """The clients of one catalog, by caller; thread-safe.

    Args:
        alias: The catalog.
        settings: How identities are passed on.
        make: Returns a new client; blocking.
    """

    def __init__(self, alias: str, settings: CatalogCallers, make: Callable[[AsCaller], T]) -> None:
        self._alias, self._settings, self._make = alias, settings, make
        self._kept: LRUCache[Caller, Any] = LRUCache(KEPT)
        self._connections = SharedConnections()
        self._lock = threading.Lock()

    def of(self, caller: Caller) -> Any:
        """Return the client of a caller; blocking where it is new.

        Raises:
            RefusalError: As of :class:`ExchangedToken`.
            Exception: Any exception of the client, if the catalog does not answer.
        """
        with self._lock:
            known = self._kept.get(caller)
        if known is not None:
            return known
        identity = caller.written(self._settings.identity)
        exchanged = self._settings.pass_by == TOKEN_EXCHANGE
        token = ExchangedToken(self._alias, self._settings, identity) if exchanged else None
        made = self._make(AsCaller(self._settings, token, identity, self._connections))
        with self._lock:
            return self._kept.setdefault(caller, made)

    def __len__(self) -> int:
        """Return how many clients are kept."""
        return len(self._kept)

    def close(self) -> None:
        """Close idle connections."""
        self._connections.close_all()
