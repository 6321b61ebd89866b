"""Which table a URI names, and its current metadata."""
