"""Strata: exact, cached and versioned Arrow results from Iceberg tables, for many teams at once."""

__version__ = "0.1.0"
