"""Tenants: each one an actor that owns everything it has."""

from strata.tenants.actor import TenantActor
from strata.tenants.gate import Gate
from strata.tenants.limits import TenantLimits
from strata.tenants.registry import Registry
from strata.tenants.resources import Resources
from strata.tenants.tenant import Readiness, State

__all__ = ["Gate", "Readiness", "Registry", "Resources", "State", "TenantActor", "TenantLimits"]
