"""Scan planning: which data files and deletes a scan reads."""
