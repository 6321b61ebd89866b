"""Which cell depends on which, what is wrong with them, and which are stale; all pure."""
