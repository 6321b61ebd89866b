"""How a setting describes and checks itself."""

from __future__ import annotations

from typing import Any

import attrs


def setting(
    default: Any,
    help: str,  # noqa: A002  # the word of click and argparse
    *,
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
    toml_only: bool = False,
    live: bool = False,
) -> Any:
    """Return an attrs field that knows how to describe and check itself; ``live`` ones change on SIGHUP."""
    metadata = {
        "help": help,
        "unit": unit,
        "least": least,
        "most": most,
        "choices": choices,
        "secret": secret,
        "toml_only": toml_only,
        "live": live,
    }
    factory = default if isinstance(default, type) else None
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata, repr=not secret)
    return attrs.field(default=default, metadata=metadata, repr=not secret)
