"""Routes of notebooks."""
