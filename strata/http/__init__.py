"""The front door: HTTP in, messages to the tenants' actors, answers out."""
