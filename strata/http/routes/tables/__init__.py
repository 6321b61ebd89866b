"""Routes about tables."""
