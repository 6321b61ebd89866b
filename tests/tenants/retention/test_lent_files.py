"""A file that a proxy was told to send stays until the proxy has opened it."""

from functools import partial

import pytest
from trio.testing import MockClock

from strata.tenants.stats import lent_files
from strata.tenants.stats.lent_files import LENT_SECONDS, LentFiles

BLOB = ("prefix", "a" * 64)


async def test_a_lent_file_is_kept_for_its_time(mock_clock: MockClock) -> None:
    """From the last answer on; its tenant is told once, so that the removal is tried again."""
    lent = LentFiles()
    assert lent.lend(BLOB)
    mock_clock.jump(LENT_SECONDS - 1)
    assert lent.lend(BLOB)
    mock_clock.jump(2)
    with lent.removing("a", BLOB) as free:
        assert not free
    assert (("a",), ()) == (lent.take_kept(), lent.take_kept())
    mock_clock.jump(LENT_SECONDS)
    with lent.removing("a", BLOB) as free:
        assert free
        assert not lent.lend(BLOB), "it goes"
        assert lent.lend(("other", BLOB[1])), "equal bytes of another tenant"
    assert lent.lend(BLOB)


async def test_what_is_kept_is_bounded(mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than that are not lent; each that was is forgotten after its time."""
    monkeypatch.setattr(lent_files, "MOST_LENT", 3)
    lent, of = LentFiles(), partial(tuple[str, str])
    assert [True, True, True, False] == [lent.lend(of(("p", str(number)))) for number in range(4)]
    assert lent.lend(of(("p", "1")))
    mock_clock.jump(LENT_SECONDS + 1)
    assert lent.lend(of(("p", "4")))
    assert 1 == len(lent._until)
