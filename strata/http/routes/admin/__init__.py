"""Routes for operators: tenants, limits, access rules, audit log, server."""
