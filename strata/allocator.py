"""How long Arrow's allocator keeps memory that nobody uses."""

from __future__ import annotations

import os

PURGE_DELAY_MS = "4"
"""After how many milliseconds free memory goes back to the system.

The allocator's own default is a second, in which a scan goes through hundreds of megabytes: a stream of a
gigabyte, of which no more than 40 MiB were alive at any time, added up to 85 MiB to the process. Measured
with pyarrow 26 (mimalloc 3.4): 22 to 42 MiB so, and less than a tenth of a cold scan's throughput for it.
"""


def keep_little() -> None:
    """Have free memory given back soon; must come before Arrow is imported, which reads it then.

    An operator who has set the allocator's own variable has decided otherwise.
    """
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", PURGE_DELAY_MS)
