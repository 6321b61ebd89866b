"""Tenants: one actor each, which owns the tenant's builds, cache, limits and counters."""

from strata.tenants.lifecycle.actor import TenantActor
from strata.tenants.lifecycle.handle import Readiness, State
from strata.tenants.lifecycle.registry import Registry
from strata.tenants.limits.model import TenantLimits
from strata.tenants.shared.authorizer import Authorizer
from strata.tenants.shared.resources import Resources

__all__ = ["Authorizer", "Readiness", "Registry", "Resources", "State", "TenantActor", "TenantLimits"]
