"""The one work pool of the process, and the policy by which it is shared."""

from strata.work.admission import Desk, Place, step_aside
from strata.work.egress_turns import LoopTurns
from strata.work.fair import FairQueue, Ticket
from strata.work.pool import WorkPool
from strata.work.socket_sender import Load
from strata.work.tier import Tier

__all__ = ["Desk", "FairQueue", "Load", "LoopTurns", "Place", "Ticket", "Tier", "WorkPool", "step_aside"]
