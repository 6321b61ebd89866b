"""Routes about the workers that run cells of notebooks."""
