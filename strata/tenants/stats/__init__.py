"""Counters of tenants and of the process."""
