"""The reference lists exactly the events that the package logs, with their levels and fields."""

from __future__ import annotations

import re
from pathlib import Path

from log_events import COUNTED, Event, events

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "log-events.md").read_text()


def test_every_event_is_listed_with_its_level_and_fields() -> None:
    """And no other one is; each row has a meaning."""
    rows = re.findall(r"^\| `([^`]+)` \| ([a-z, ]+) \| (.*?) \| (.+?) \|$", PAGE, re.MULTILINE)
    listed = {
        name: Event(set(levels.split(", ")), set(re.findall(r"`([^`]+)`", fields)))
        for name, levels, fields, meaning in rows
        if meaning.strip()
    }
    assert len(rows) == len(listed)
    assert events() == listed


def test_what_comes_from_a_mapping_is_a_known_event() -> None:
    """Each of those events is still logged so."""
    assert COUNTED.keys() <= events().keys()
