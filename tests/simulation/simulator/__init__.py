"""A deterministic simulator of the whole service: one seed, one run, one trace.

The real front door, registry, actors, work pool, cache and blobs run in one process on a virtual clock, with
Trio's scheduler seeded and threads replaced by tasks that take their virtual time. Catalog and metadata store are
twins in memory; files are real, on a disk that forgets at a crash what was not synced. Simulated clients of
several tenants ask, leave, stall and retry; faults are injected out of the same seed; afterwards the invariants
are checked.

``python -m simulator SEED`` replays a run and prints its trace.
"""

from simulator.invariants import INVARIANTS, Violation, describe
from simulator.run import Report, simulate

__all__ = ["INVARIANTS", "Report", "Violation", "describe", "simulate"]
