"""Reasons why the demo cannot run; the messages are for its user."""


class DemoError(Exception):
    """The demo cannot run here."""


class SourceMissingError(DemoError):
    """The demo's data is not installed."""


class DirectoryInUseError(DemoError):
    """The directory contains files that are not the demo's."""


class PortInUseError(DemoError):
    """Another process listens on a port of the demo."""
