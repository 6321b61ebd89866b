"""Live sessions of notebooks: one a notebook, which runs cells and tells all members of it."""
