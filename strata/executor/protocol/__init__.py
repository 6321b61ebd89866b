"""Version 1 of the executor protocol, as both sides speak it."""
