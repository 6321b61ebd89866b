"""The number of connections follows from the descriptors that they may take."""

import resource

import pytest
import structlog

from strata.server.process import DESCRIPTORS_A_CONNECTION, RESERVED, connections_within


@pytest.mark.parametrize(
    ("hard", "wanted", "fitting"),
    [
        (RESERVED + 300, 100, 100),
        (RESERVED + 300, 101, 100),
        (RESERVED + 300, 300, 100),
        (100, 10, 1),
        (resource.RLIM_INFINITY, 10_000, 10_000),
    ],
)
def test_a_connection_is_counted_with_all_that_its_result_takes(
    monkeypatch: pytest.MonkeyPatch, hard: int, wanted: int, fitting: int
) -> None:
    """Were results sent on all of them, their sockets, files and duplicates would still fit the limit."""
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (hard, hard))
    with structlog.testing.capture_logs() as logged:
        assert fitting == connections_within(wanted)
    assert [fitting] * (fitting < wanted) == [line["fitting"] for line in logged]
    assert 3 == DESCRIPTORS_A_CONNECTION
