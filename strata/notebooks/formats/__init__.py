"""Notebooks as files: .ipynb and directories both ways, scripts and HTML pages out."""
