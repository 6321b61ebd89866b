"""Executors: other processes that run transforms over HTTP; the protocol, and our own executor."""
