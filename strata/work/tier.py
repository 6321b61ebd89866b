"""The two classes of work."""

import enum


class Tier(enum.Enum):
    """Interactive work goes first; bulk work keeps a floor. Which a scan is follows from its plan."""

    INTERACTIVE = "interactive"
    BULK = "bulk"
