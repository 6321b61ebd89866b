"""Settings: every name a deployment can set, where values come from, and which combinations are refused."""

from strata.config.coherence import validate_mode_coherence
from strata.config.problems import ConfigError, Problem
from strata.config.settings import BUCKETS, Settings

__all__ = ["BUCKETS", "ConfigError", "Problem", "Settings", "validate_mode_coherence"]
