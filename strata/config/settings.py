"""Assemble the settings of a deployment, and what follows from several of them.

:mod:`strata.config.groups` declares them, :mod:`strata.config.sources` reads values,
:mod:`strata.config.coherence` checks their combinations.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from strata.config.groups.object_stores import BUCKETS, ObjectStoreSettings
from strata.config.groups.observing import ObservingSettings
from strata.config.groups.serving import IdentitySettings, ServingSettings
from strata.config.groups.storage import DataSettings, ResultSettings
from strata.config.groups.tenancy import LimitSettings, TenantSettings

__all__ = ["BUCKETS", "Settings"]


@attrs.frozen(kw_only=True, slots=False)
class Settings(
    ObservingSettings,
    ObjectStoreSettings,
    ResultSettings,
    LimitSettings,
    DataSettings,
    TenantSettings,
    IdentitySettings,
    ServingSettings,
):
    """All settings. Each is a TOML key under ``[tool.strata]`` and, upper-case, a ``STRATA_`` variable."""

    @property
    def overrides_path(self) -> Path:
        """Path of the file of limits changed through the admin API."""
        if self.tenant_overrides_file is not None:
            return Path(self.tenant_overrides_file).expanduser()
        root = Path(self.cache_dir).expanduser() if self.needs_no_directory else self.artifact_root
        return root / "tenant-overrides.toml"

    @property
    def needs_no_directory(self) -> bool:
        """Whether results and metadata are both elsewhere, and no ``artifact_dir`` is named."""
        return (
            self.artifact_blob_backend != "local"
            and self.artifact_metadata_dsn is not None
            and self.artifact_dir is None
        )

    @property
    def artifact_root(self) -> Path:
        """Directory of results: ``artifact_dir``, or the default of personal mode."""
        return Path(self.artifact_dir or "~/.strata/artifacts").expanduser()
