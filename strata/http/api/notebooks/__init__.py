"""The JSON of notebooks."""
