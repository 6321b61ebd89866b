"""The audit of who read what."""
