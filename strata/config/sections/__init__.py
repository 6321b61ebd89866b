"""Sections of the configuration that are lists or tables with rules of their own."""
