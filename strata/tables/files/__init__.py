"""Opening and parsing of the files of a table."""
