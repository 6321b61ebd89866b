"""ASGI's callables, as loosely typed as the protocol is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]

Receive = Callable[[], Awaitable[dict[str, Any]]]

Send = Callable[[dict[str, Any]], Awaitable[None]]

App = Callable[[Scope, Receive, Send], Awaitable[None]]

KNOWN_KEY = "strata.known"
"""Key in an ASGI scope's state: a call that says the connection's client has an identity."""

LOADS_KEY = "strata.loads"
"""Key in an ASGI scope's state: the bytes of an answer's body may be a load instead."""

GONE_KEY = "strata.gone"
"""Key in an ASGI scope: takes who is to be called when the client has left, or the answer's end was sent."""
