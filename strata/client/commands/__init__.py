"""The commands for people who read tables, which need no server on their machine."""

from strata.client.commands.group import main

__all__ = ["main"]
