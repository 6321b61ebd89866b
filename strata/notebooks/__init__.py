"""Notebooks: model, graph, store and file formats. Nothing here runs a cell."""
