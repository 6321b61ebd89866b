"""Rows about results: artifacts, builds, names and the audit log, in a database."""
