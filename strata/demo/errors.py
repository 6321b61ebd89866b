"""Why the demo cannot run; the message is for the person who asked for it."""


class DemoError(Exception):
    """The demo cannot run here."""


class SourceMissingError(DemoError):
    """The demo's data is not installed."""


class DirectoryInUseError(DemoError):
    """The directory holds something that the demo did not make."""


class PortInUseError(DemoError):
    """Somebody else listens where the demo wants to."""
