"""Problems: the response of every refusal."""

from __future__ import annotations

import pytest

from strata.http.problems import STATUS, Problem
from strata.outcomes import Reason, Refused


@pytest.mark.parametrize("given", [None, -3, 0, 1, 7])
@pytest.mark.parametrize("reason", list(Reason))
def test_retry_after_is_never_zero(reason: Reason, given: int | None) -> None:
    """Every 429 and 503 has a Retry-After of at least a second, and no other status has one."""
    headers = dict(Problem.of(Refused(reason, "No.", retry_after=given)).header_pairs())
    if STATUS[reason] in (429, 503):
        assert max(1, given or 1) == int(headers["Retry-After"])
    else:
        assert "Retry-After" not in headers
