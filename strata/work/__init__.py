"""Work pool of the process, admission and egress, and the policies by which they are shared."""

from strata.work.admission import AdmissionQueue, AdmissionToken
from strata.work.egress_turns import EgressTurns
from strata.work.fair import FairQueue, QueueEntry
from strata.work.pool import WorkPool
from strata.work.socket_sender import FileRange
from strata.work.tier import Tier

__all__ = [
    "AdmissionQueue",
    "AdmissionToken",
    "EgressTurns",
    "FairQueue",
    "FileRange",
    "QueueEntry",
    "Tier",
    "WorkPool",
]
