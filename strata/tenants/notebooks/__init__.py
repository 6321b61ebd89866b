"""Questions about notebooks to the actor of a tenant, and its answers."""
