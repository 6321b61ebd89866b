"""The settings in groups: name, type, default, bounds and help text of each."""
