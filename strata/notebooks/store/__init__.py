"""Where notebooks and their revisions are kept."""
