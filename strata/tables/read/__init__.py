"""Reading of row groups: decoding, deletes, projection, residual filters, Arrow IPC."""
