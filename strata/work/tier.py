"""Name the two classes of work."""

import enum


class Tier(enum.Enum):
    """Class of work: interactive goes first, bulk keeps a floor. A scan's plan decides its class."""

    INTERACTIVE = "interactive"
    BULK = "bulk"
