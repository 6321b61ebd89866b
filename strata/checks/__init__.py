"""What ``strata check`` looks at beyond the configuration: this machine, and what the settings name."""

from strata.checks.surroundings import survey
from strata.checks.tables import look_at_tables

__all__ = ["look_at_tables", "survey"]
