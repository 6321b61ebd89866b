"""Run cells of notebooks in sandboxed processes, on this machine or inside an executor's sidecar."""
