"""Our own executor: runs SQL and registered Python functions, a sandboxed process for each build."""
