"""Database records of artifacts, builds, names and the audit log."""
