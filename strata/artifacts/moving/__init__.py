"""All of one tenant's results at once: copied into another store, or removed."""
