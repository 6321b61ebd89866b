"""How long Arrow's allocator keeps memory that nobody uses."""

from __future__ import annotations

import os

PURGE_DELAY_MS = "100"
"""After how many milliseconds free memory goes back to the system.

The allocator's own default is a second, in which a scan goes through hundreds of megabytes: a stream of a
gigabyte, of which no more than 40 MiB were alive at any time, added up to 85 MiB to the process. Given back
at once, on the other hand, the same pages are asked for again by the next slice, and the system clears each.
Measured with pyarrow 26 (mimalloc 3.4), added memory and throughput of a cold scan: 4 ms 31 to 35 MiB and
300 MB/s; 100 ms 37 to 44 MiB and 360 MB/s; a second 380 MB/s.
"""


def keep_little() -> None:
    """Have free memory given back soon; must come before Arrow is imported, which reads it then.

    An operator who has set the allocator's own variable has decided otherwise.
    """
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", PURGE_DELAY_MS)
