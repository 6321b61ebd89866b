"""Reader processes: every data file is parsed in a process that may die.

Parsing foreign files is native code, which some damaged files crash. A reader is forked from a fork server,
which has imported what readers need and has neither threads nor files of the server. It opens nothing by
name: the server has an opener open a file that belongs to the row group being read and hands over its
descriptor, or that of memory into which it has fetched what is read of a file that is not local. Decoded
and encoded rows come back through memory that both share.

A reader that dies costs the step it was at: the step is tried once more in another reader, and a file at
which two died is refused.
"""

from strata.readers.manifests import ReaderManifests
from strata.readers.pool import READERS, ReaderPool
from strata.readers.row_groups import ReaderRowGroup, SharedSlice, expand_in_reader, prefetch_for_reader
from strata.readers.runs import expand_run, read_run

__all__ = [
    "READERS",
    "ReaderManifests",
    "ReaderPool",
    "ReaderRowGroup",
    "SharedSlice",
    "expand_in_reader",
    "expand_run",
    "prefetch_for_reader",
    "read_run",
]
