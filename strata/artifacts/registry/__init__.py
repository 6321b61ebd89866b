"""The registry of results: names, aliases, tags, pins, and what was done to them."""
