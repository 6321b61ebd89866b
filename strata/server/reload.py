"""What a running server takes over from a configuration that has changed, and what needs a restart."""

from __future__ import annotations

import attrs
import structlog

from strata.acl import CompiledPolicy
from strata.config import ConfigError, Settings, validate_mode_coherence
from strata.config.tenants import coherence

log = structlog.get_logger(__name__)

LOGS = frozenset({"log_level", "log_format"})

LIVE = frozenset(field.name for field in attrs.fields(Settings) if field.metadata["live"])
"""Settings that take effect without a restart."""


@attrs.frozen
class Reloaded:
    """What becomes of a new configuration.

    Attributes:
        changed: Settings that have their new values from now on.
        waiting: Settings that have changed and keep their old values until a restart.
        settings: What is in effect then.
        rules: Its access rules, compiled.
    """

    changed: tuple[str, ...]
    waiting: tuple[str, ...]
    settings: Settings
    rules: CompiledPolicy | None


def difference(old: Settings, new: Settings) -> Reloaded:
    """Return what a running server makes of ``new``. Looks at files; blocking.

    Raises:
        ConfigError: If what takes effect at once makes no sense with what does not.
    """
    names = [field.name for field in attrs.fields(Settings)]
    differing = [name for name in names if getattr(old, name) != getattr(new, name)]
    changed = tuple(name for name in differing if name in LIVE)
    settings = attrs.evolve(old, **{name: getattr(new, name) for name in changed})
    problems = (*validate_mode_coherence(settings), *coherence(settings))
    if problems:
        raise ConfigError(problems)
    rules = None if settings.acl_config is None else CompiledPolicy(settings.acl_config)
    return Reloaded(changed, tuple(name for name in differing if name not in LIVE), settings, rules)
