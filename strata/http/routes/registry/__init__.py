"""The life of results: how they end."""
