"""What a running server takes over from a configuration that has changed, and what needs a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import attrs
import structlog

from strata.config import Settings
from strata.observability.logs import configure

if TYPE_CHECKING:
    from strata.server import Service

log = structlog.get_logger(__name__)

IDENTITY = frozenset(
    {
        "proxy_token",
        "proxy_token_previous",
        "principal_header",
        "scopes_header",
        "tenant_header",
        "personal_mode_user_header",
        "require_tenant_header",
    }
)
ACCESS = frozenset({"acl_config", "hide_forbidden_as_not_found"})
LIMITS = frozenset(
    {
        "interactive_slots",
        "bulk_slots",
        "interactive_max_bytes",
        "interactive_max_columns",
        "interactive_queue_timeout_seconds",
        "bulk_queue_timeout_seconds",
        "max_concurrent_scans",
        "max_tasks_per_scan",
        "max_response_bytes",
        "plan_timeout_seconds",
        "scan_timeout_seconds",
        "fetch_timeout_seconds",
        "fetch_parallelism",
        "batch_size",
        "stream_state_ttl_seconds",
    }
)
LOGS = frozenset({"log_level", "log_format"})

LIVE = IDENTITY | ACCESS | LIMITS | LOGS
"""Settings that take effect without a restart."""


@attrs.frozen
class Reloaded:
    """What became of a new configuration.

    Attributes:
        changed: Settings that have their new values from now on.
        waiting: Settings that have changed and keep their old values until a restart.
    """

    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def difference(old: Settings, new: Settings) -> Reloaded:
    """Return which settings differ, those that take effect at once first."""
    names = [field.name for field in attrs.fields(Settings)]
    differing = [name for name in names if getattr(old, name) != getattr(new, name)]
    return Reloaded(
        tuple(name for name in differing if name in LIVE),
        tuple(name for name in differing if name not in LIVE),
    )


def apply(service: Service, new: Settings) -> Reloaded:
    """Give a running service what it can take of ``new``, which is valid; no checkpoint in between.

    The service's settings are then those in effect.
    """
    found = difference(service.settings, new)
    effective = attrs.evolve(service.settings, **{name: getattr(new, name) for name in found.changed})
    service.take(effective)
    if LOGS & set(found.changed):
        configure(effective.log_level, cast("Literal['json', 'text']", effective.log_format))
    log.info("configuration read again", changed=found.changed, needs_restart=found.waiting)
    return found
