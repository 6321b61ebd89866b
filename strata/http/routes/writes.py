"""Direct writes, which service mode refuses: the platform decides what is materialized."""

from quart_schema import tag

from strata.http.api.openapi import refuses
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError


@tag(["writes"])
@refuses(403)
async def disabled(_call: Call) -> Answer:
    """Refuse, whatever the target: that it exists or not is nobody's business here."""
    detail = "Direct writes are disabled in service mode."
    raise ProblemError(Problem(403, detail, "writes_disabled"))
