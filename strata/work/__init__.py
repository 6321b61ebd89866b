"""The one work pool of the process, and the policy by which it is shared."""

from strata.work.carry import Load
from strata.work.desk import Desk, Place, step_aside
from strata.work.fair import FairQueue, Ticket
from strata.work.loop import LoopTurns
from strata.work.pool import WorkPool
from strata.work.tier import Tier

__all__ = ["Desk", "FairQueue", "Load", "LoopTurns", "Place", "Ticket", "Tier", "WorkPool", "step_aside"]
