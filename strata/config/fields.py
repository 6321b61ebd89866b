# ruff: noqa: FBT003  # the first argument of a setting is its default
"""Declare settings with their metadata, and the fields of one tenant's section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
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
    tenant: bool = False,
    zero_is_free: bool = False,
) -> Any:
    """Return an attrs field with the metadata of a setting.

    Args:
        default: Default value, or a type that makes one.
        help: Meaning, for the reference and ``--help``; understood without any other setting's text.
        unit: Unit of the value.
        least: Minimum.
        most: Maximum.
        choices: All permitted values.
        secret: The value is never shown, and can be given as a file.
        toml_only: The setting cannot be given as an environment variable.
        live: SIGHUP applies a changed value.
        tenant: The setting is a limit of each tenant, and can be set for a single one.
        zero_is_free: For a limit: 0 means unlimited.
    """
    metadata = {
        "help": help,
        "unit": unit,
        "least": least,
        "most": most,
        "choices": choices,
        "secret": secret,
        "toml_only": toml_only,
        "live": live,
        "tenant": tenant,
        "zero_is_free": zero_is_free,
    }
    factory = default if isinstance(default, type) else None
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata, repr=not secret)
    return attrs.field(default=default, metadata=metadata, repr=not secret)


limit = partial(setting, live=True, tenant=True)
"""Declare a limit of each tenant: a setting that ``[tool.strata.tenants.<id>]`` can override for one."""


@attrs.frozen
class TenantSection:
    """Limits of one tenant, by setting.

    Attributes:
        values: Values that differ for this tenant; also ``weight`` and ``enabled``.
        maximum: Upper bounds for changes through the admin API, by limit.
    """

    values: Mapping[str, Any] = attrs.field(factory=dict)
    maximum: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen
class TenantOnly:
    """Settings that exist only for a single tenant."""

    weight: float = setting(
        1.0,
        "Share of the machine, relative to other tenants, while tenants compete (default 1).",
        least=0.01,
        most=100,
    )
    enabled: bool = setting(True, "Serve the tenant; when false, its requests are answered 403.")
