"""The table of handlers: whole, and one for all actors."""

from typing import get_args

from strata.tenants import messages as m
from strata.tenants.lifecycle.actor import HANDLERS


def test_every_kind_of_question_has_a_handler() -> None:
    """The table has all members of ``messages.Question``, and nothing else."""
    assert set(get_args(m.Question)) == set(HANDLERS)
