"""Tenants: each one an actor that owns everything it has."""

from strata.tenants.actor import TenantActor
from strata.tenants.gate import Gate
from strata.tenants.limits import TenantLimits
from strata.tenants.registry import Readiness, Registry, State
from strata.tenants.resources import Resources

__all__ = ["Gate", "Readiness", "Registry", "Resources", "State", "TenantActor", "TenantLimits"]
