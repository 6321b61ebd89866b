"""Transforms of one tenant: what a request asks for, and the build of its result."""
