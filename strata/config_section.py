# ruff: noqa: FBT003  # settings are described by calls whose first argument is the default
"""What a configuration can say of one tenant: ``[tool.strata.tenants.<id>]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from strata.config_setting import setting


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
