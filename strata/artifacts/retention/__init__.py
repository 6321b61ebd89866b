"""The end of results: which may go, what holds them, and the removal of their bytes."""
