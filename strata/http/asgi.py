"""ASGI's callables, as loosely typed as the protocol is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]

Receive = Callable[[], Awaitable[dict[str, Any]]]

Send = Callable[[dict[str, Any]], Awaitable[None]]

App = Callable[[Scope, Receive, Send], Awaitable[None]]

KNOWN_KEY = "strata.known"
"""Key in an ASGI scope's state: a function to call when the connection's client has proved an identity."""

LOADS_KEY = "strata.loads"
"""Key in an ASGI scope's state: the server takes a ``FileRange`` in the place of an answer's bytes."""

GONE_KEY = "strata.gone"
"""Key in an ASGI scope: takes a function to call when the client has left or the answer's end was sent."""

STOPPING_KEY = "strata.stopping"
"""Key in an ASGI scope's state: an async function that returns when the server begins to stop."""
