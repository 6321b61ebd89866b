"""Which files and row groups a scan has to read."""
