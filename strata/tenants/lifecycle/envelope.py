"""A question in the mailbox of a tenant's actor, and its answer."""

from __future__ import annotations

from typing import Any

import structlog
import trio

from strata.tenants import messages as m
from strata.tracing.spans import current


class Envelope:
    """A question in the mailbox, and its answer.

    Attributes:
        question: The question.
        pending: The rest of its work; None: nothing has been done.
        request_id: The id of its request, which all lines logged for it carry.
        span: The span that asks; None where nothing is traced.
        scope: Cancelled when the request is: the work for it ends.
        answer: The answer, once there is one.
        answered: Set with the answer.
        gone: Whether the request has left.
    """

    def __init__(self, question: m.Question, pending: m.Pending | None = None) -> None:
        self.question = question
        self.pending = pending
        self.request_id: str | None = structlog.contextvars.get_contextvars().get("request_id")
        self.span = current()
        self.scope = trio.CancelScope()
        self.answer: Any = None
        self.answered = trio.Event()
        self.gone = False

    def reply(self, answer: object) -> None:
        """Settle the answer. The first one counts; a stream that will not be read is closed."""
        if self.gone or self.answered.is_set():
            _let_go(answer)
            return
        self.answer = answer
        self.answered.set()

    def abandon(self) -> None:
        """Give the question up, perhaps in the very moment in which its answer came."""
        self.gone = True
        self.scope.cancel()
        _let_go(self.answer)


def _let_go(answer: object) -> None:
    if isinstance(answer, m.Opened):
        answer.stream.close()
