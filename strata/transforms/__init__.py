"""Transforms: what the operator registered, what a request asks of it, and the program that runs SQL."""
