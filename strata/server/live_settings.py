"""Divide a changed configuration into what takes effect at once and what needs a restart."""

from __future__ import annotations

import attrs
import structlog

from strata.acl import CompiledPolicy
from strata.config import ConfigError, Settings, validate_mode_coherence
from strata.config.sections.catalog_callers import caller_coherence
from strata.config.sections.notebook_environments import environment_coherence
from strata.config.sections.notebook_workers import worker_coherence
from strata.config.sections.transforms import transform_coherence
from strata.config.tenants import coherence

log = structlog.get_logger(__name__)

LOGS = frozenset({"log_level", "log_format"})
"""Settings that reconfigure logging."""

LIVE = frozenset(field.name for field in attrs.fields(Settings) if field.metadata["live"])
"""Settings that take effect without a restart."""


@attrs.frozen
class Reloaded:
    """A changed configuration, as far as a running server can apply it.

    Attributes:
        changed: Settings that take their new values now.
        waiting: Changed settings that keep their old values until a restart.
        settings: Settings in effect after the reload.
        rules: Compiled access rules of those settings; None if there are none.
    """

    changed: tuple[str, ...]
    waiting: tuple[str, ...]
    settings: Settings
    rules: CompiledPolicy | None


def difference(old: Settings, new: Settings) -> Reloaded:
    """Return what a running server can apply of ``new``. Reads files; blocking.

    Raises:
        ConfigError: If the settings that take effect now contradict those that need a restart.
    """
    names = [field.name for field in attrs.fields(Settings)]
    differing = [name for name in names if getattr(old, name) != getattr(new, name)]
    changed = tuple(name for name in differing if name in LIVE)
    settings = attrs.evolve(old, **{name: getattr(new, name) for name in changed})
    problems = (
        *validate_mode_coherence(settings),
        *coherence(settings),
        *transform_coherence(settings),
        *worker_coherence(settings),
        *caller_coherence(settings),
        *environment_coherence(settings),
    )
    if problems:
        raise ConfigError(problems)
    rules = None if settings.acl_config is None else CompiledPolicy(settings.acl_config)
    return Reloaded(changed, tuple(name for name in differing if name not in LIVE), settings, rules)
