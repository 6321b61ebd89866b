"""Reasons why the demo cannot run; the messages are for its user."""


class DemoError(Exception):
    """The demo cannot run here."""


class CheckFailedError(Exception):
    """The server did not do what it should."""


def require(condition: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as an assertion
    """Require a condition of a check.

    Raises:
        CheckFailedError: With the sentence ``otherwise``, if the condition is false.
    """
    if not condition:
        raise CheckFailedError(otherwise)


class SourceMissingError(DemoError):
    """The demo's data is not installed."""


class DirectoryInUseError(DemoError):
    """The directory cannot be used, is in use by another demo, or contains files that are not the demo's."""


class PortInUseError(DemoError):
    """Another process listens on a port of the demo."""
