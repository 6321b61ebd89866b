"""A deterministic simulator of the whole service: one seed, one run, one trace.

The real front door, registry, actors, work pool, cache and blobs run in one process on a virtual clock, with
Trio's scheduler seeded and threads replaced by tasks that take virtual time. Catalog and metadata store are
twins in memory; files are real, on a disk that loses unsynced data at a crash. Simulated clients of
several tenants send requests, leave, stall and retry; faults follow from the same seed; afterwards the invariants
are checked.

``python -m simulator SEED`` repeats a run and prints its trace.
"""

from simulator.invariants import INVARIANTS, Violation, describe
from simulator.run import Report, simulate

__all__ = ["INVARIANTS", "Report", "Violation", "describe", "simulate"]
