"""Build a server process from settings, run it, reload its settings, stop it.

Imports are lazy: :mod:`strata.server.process` sets the allocator before anything loads pyarrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strata.server.run import run_server
    from strata.server.service import Service, open_service

__all__ = ["Service", "open_service", "run_server"]

_MODULES = {
    "Service": "strata.server.service",
    "open_service": "strata.server.service",
    "run_server": "strata.server.run",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
