# ruff: noqa: FBT003  # settings are described by calls whose first argument is the default
"""How a setting describes and checks itself; the fields of one tenant's section of the configuration."""

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
    """Return an attrs field that knows how to describe and check itself.

    Args:
        default: Its default, or a type that makes one.
        help: What it means, in a sentence.
        unit: Of its value.
        least: Smallest value.
        most: Largest value.
        choices: All values.
        secret: Never shown, and may be in a file of its own.
        toml_only: No environment variable can say it.
        live: Changes on SIGHUP.
        tenant: A limit on one tenant, which may be another one for each.
        zero_is_free: Of such a limit, 0 means that there is none.
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
"""A limit on one tenant: a setting for all of them, which ``[tool.strata.tenants.<id>]`` can say of one."""


@attrs.frozen
class TenantSection:
    """Limits of one tenant, by the names of the settings that are the limits of all.

    Attributes:
        values: What differs for this tenant; ``weight`` and ``enabled`` besides the limits.
        maximum: What nobody can exceed by the admin API, by limit.
    """

    values: Mapping[str, Any] = attrs.field(factory=dict)
    maximum: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen
class TenantOnly:
    """What can be said of a tenant and not of all of them."""

    weight: float = setting(
        1.0, "Its share of the machine in relation to the others', while they compete.", least=0.01, most=100
    )
    enabled: bool = setting(True, "Whether it is served at all; if not, its requests are 403.")
