"""Logs: one JSON object a line (or readable text), ids and numbers only.

No token, header value, request value or row ever belongs in a log call. What libraries log through the
standard library is routed here too, without arguments that could hold such values.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import Processor

NOISY = ("hypercorn", "quart", "pyiceberg", "alembic", "sqlalchemy", "httpx", "httpcore")
"""Loggers whose INFO lines repeat requests, statements or URLs."""


def configure(level: str, style: Literal["json", "text"], stream: TextIO | None = None) -> None:
    """Set logging up for the process.

    Args:
        level: Least level that is written (``log_level``).
        style: ``json`` or ``text`` (``log_format``).
        stream: Where to; standard error by default.
    """
    out = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor
    if style == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        # A plain traceback: the pretty one prints local variables, which hold rows and headers.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in NOISY:
        logger = logging.getLogger(name)
        logger.setLevel(max(number, logging.WARNING))
        logger.handlers.clear()
        logger.propagate = True
