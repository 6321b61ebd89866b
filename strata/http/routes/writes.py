"""Direct writes, which service mode does not have: the platform decides what is materialized."""

from quart import Blueprint, Response
from quart_schema import tag

from strata.http.api.openapi import refuses
from strata.http.problems import Problem, ProblemError

blueprint = Blueprint("writes", __name__)

WRITES = (
    ("PUT", "/v1/artifacts"),
    ("DELETE", "/v1/artifacts/<artifact_id>/v/<version:version>"),
    ("PUT", "/v1/artifacts/<artifact_id>/v/<version:version>/tags"),
    ("DELETE", "/v1/artifacts/<artifact_id>/v/<version:version>/tags/<key>"),
    ("POST", "/v1/names"),
    ("DELETE", "/v1/names/<path:name>"),
    ("PUT", "/v1/names/<path:name>/aliases/<alias>"),
    ("DELETE", "/v1/names/<path:name>/aliases/<alias>"),
)


@tag(["writes"])
@refuses(403)
async def disabled(**_parts: object) -> Response:
    """Refuse, whatever the target: that it exists or not is nobody's business here."""
    detail = "Direct writes are disabled in service mode."
    raise ProblemError(Problem(403, detail, "writes_disabled"))


for _index, (_method, _rule) in enumerate(WRITES):
    blueprint.add_url_rule(_rule, f"disabled{_index}", disabled, methods=[_method])
