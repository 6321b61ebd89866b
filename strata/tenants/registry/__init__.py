"""Changes of the registry: who may make them, and how they are recorded."""
