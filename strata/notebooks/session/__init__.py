"""The live session of a notebook as pure functions: its owner, members, locks and events. Not served yet."""
