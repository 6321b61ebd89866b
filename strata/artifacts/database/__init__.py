"""Databases that hold the metadata of results: a SQLite file of one server, or PostgreSQL for several."""
