"""The rows of a row group: decode, deletes, filters, Arrow IPC."""
