"""Have local files read in the test's own process, where their reading can be watched and held up."""

import pytest

from strata.readers import READERS


def read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read files without reader processes until the test ends."""
    monkeypatch.setattr(READERS, "available", False)
