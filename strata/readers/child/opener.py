"""An opener: opens local files for the server by name, until the server closes the link.

It parses nothing. It exists because a file system that hangs holds a thread that opens a file in it, beyond
any signal: a process that is held can be given up, a thread of the server could not.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from typing import Any

from strata.readers.child.walls import raise_opener_walls
from strata.readers.messages import receive, send
from strata.regular_files import OutsideError, open_below, open_regular


def serve(link: socket.socket) -> None:
    """Answer questions for files until the link is closed."""
    raise_opener_walls()
    while (found := receive(link)) is not None:
        descriptors: list[int] = []
        try:
            answers = [_opened(path, below, descriptors) for path, below in json.loads(found[0])]
            send(link, json.dumps(answers).encode(), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _opened(path: str, below: str | None, descriptors: list[int]) -> dict[str, Any]:
    """Append the descriptor of a file; returns nothing, or why there is none."""
    try:
        descriptors.append(_open(path, below))
    except OutsideError:
        return {"outside": True}
    except OSError as error:
        return {"errno": error.errno or errno.EIO}
    return {}


def _open(path: str, below: str | None) -> int:
    return open_regular(path, follow=True) if below is None else open_below(path, below)
