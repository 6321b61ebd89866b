"""Analyse cells in a process of its own: run as a program by :mod:`.analyser`.

Its standard input is a socket. A question is four bytes of length, big end first, and JSON ``[language,
source]``; its answer is the same with ``[analysis, seconds of the processor]``. Its argument is the limit of
one analysis in seconds of the processor.
"""

import json
import os
import resource
import socket
import sys
import time

from strata.notebooks.names.analysis import TOO_NESTED, analyse, failed

NICE = 10
"""Priority of the process: the server's own threads go first."""

MEMORY_BYTES = 512 << 20
"""Bytes of data the process may hold; a source that takes more ends it."""


def main(cpu_seconds: int) -> None:
    """Answer until the other end of the socket is closed.

    Args:
        cpu_seconds: Seconds of the processor that one analysis may take; beyond, the system ends the process.
    """
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    with socket.socket(fileno=0) as server:
        while head := server.recv(4, socket.MSG_WAITALL):
            question = server.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
            began = time.process_time()
            resource.setrlimit(resource.RLIMIT_CPU, (int(began) + cpu_seconds + 1, most))
            try:
                found = analyse(*json.loads(question))
            except (RecursionError, MemoryError):
                found = failed("too_nested", TOO_NESTED)
            answer = json.dumps([found.as_json(), time.process_time() - began]).encode()
            server.sendall(len(answer).to_bytes(4, "big") + answer)


if __name__ == "__main__":
    sys.setswitchinterval(1)  # it has one thread
    main(int(sys.argv[1]))
