"""How much a tenant or principal may use, and when a refused request may try again (Retry-After)."""
