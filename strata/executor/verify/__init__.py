"""Verify that any executor keeps the protocol: ``strata executor verify``."""
