"""Applying a new configuration to a running server."""

import attrs
import pytest

from strata.config import ConfigError, Settings
from strata.server.live_settings import LIVE, difference


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(artifact_dir=str(tmp_path / "a"), cache_dir=str(tmp_path / "c"))


def test_what_can_change_does_and_the_rest_is_named(settings: Settings) -> None:
    """Reloadable settings change; the others keep their values and are named."""
    new = attrs.evolve(settings, batch_size=10, log_level="DEBUG", port=1, max_tenants=3)
    found = difference(settings, new)

    assert (("batch_size", "log_level"), ("port", "max_tenants")) == (found.changed, found.waiting)
    assert attrs.evolve(settings, batch_size=10, log_level="DEBUG") == found.settings


def test_what_mixes_badly_with_what_stays_is_refused_whole(settings: Settings) -> None:
    """A new configuration that conflicts with a setting that cannot change is refused whole."""
    old = attrs.evolve(settings, deployment_mode="service", auth_mode="trusted_proxy", proxy_token="t" * 20)
    new = attrs.evolve(old, multi_tenant_enabled=True, require_tenant_header=True)

    with pytest.raises(ConfigError, match="require_tenant_header: tenants are off; set multi_tenant_enabled"):
        difference(old, new)


def test_nothing_that_decides_where_things_are_changes_in_a_running_server() -> None:
    """No setting that places data, or tells tenants apart, can be reloaded."""
    fixed = {"deployment_mode", "auth_mode", "multi_tenant_enabled", "host", "port", "unix_socket", "warehouses",
             "catalogs", "cache_dir", "artifact_dir", "metadata_db", "max_connections"}  # fmt: skip
    assert fixed.isdisjoint(LIVE)
