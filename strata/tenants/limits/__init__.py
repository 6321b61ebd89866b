"""How much a tenant or principal may use."""
