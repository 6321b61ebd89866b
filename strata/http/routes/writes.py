"""Direct writes, which service mode refuses: the platform decides what is materialized."""

from quart_schema import tag

from strata.http.api.openapi import refuses
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError


@tag(["writes"])
@refuses(403)
async def disabled(_call: Call) -> Answer:
    """Refuse, with the same answer whether the target exists or not."""
    detail = "Direct writes are disabled in service mode."
    raise ProblemError(Problem(403, detail, "writes_disabled"))
