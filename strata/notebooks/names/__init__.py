"""Which names a cell reads and defines: the analysis of one cell, in a child process for the server."""
