"""The application inside the door: Quart-Trio, its routes, its errors as problems, its description."""

from __future__ import annotations

from typing import Any

import structlog
from quart import Response
from quart_schema import Info, QuartSchema, Tag
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from strata import __version__
from strata.http import routes
from strata.http.api import docs
from strata.http.api.converters import VersionConverter
from strata.http.api.openapi import SECURITY, SECURITY_SCHEME, Description
from strata.http.door.context import context
from strata.http.problems import Problem, ProblemError

log = structlog.get_logger(__name__)

INFO = Info(
    title="Strata",
    version=__version__,
    description="Exact, cached and versioned Arrow results from Iceberg tables.",
)

TAGS: list[Tag | dict[str, str]] = [
    Tag("results", "Build results and read them"),
    Tag("artifacts", "Finished results"),
    Tag("names", "Names of results"),
    Tag("operations", "For operators"),
    Tag("administration", "Tenants and their limits"),
    Tag("writes", "Direct writes, which service mode does not have"),
]


def create_app(*, personal: bool) -> QuartTrio:
    """Return the application; :class:`~strata.http.door.front_door.FrontDoor` goes around it.

    Args:
        personal: Personal mode: direct writes are not refused by mode.
    """
    app = QuartTrio("strata.http", static_folder=None)
    # Answers and bodies have their own, visible deadlines; Quart's cut a stream with status 200.
    app.config.update(
        RESPONSE_TIMEOUT=None, BODY_TIMEOUT=None, MAX_CONTENT_LENGTH=None, PROPAGATE_EXCEPTIONS=False
    )
    QuartSchema(
        app,
        info=INFO,
        tags=TAGS,
        openapi_path="/openapi.json",
        swagger_ui_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        conversion_preference="msgspec",
        openapi_provider_class=Description,
        security_schemes=None if personal else {SECURITY_SCHEME: SECURITY},
        security=None if personal else [{SECURITY_SCHEME: []}],
    )
    # A path is what was sent. Merged slashes would redirect to where the Host header says, and hide names
    # with two of them.
    app.url_map.merge_slashes = False
    app.url_map.converters["version"] = VersionConverter
    routes.register(app, personal=personal)
    app.register_blueprint(docs.blueprint)
    app.register_error_handler(ProblemError, _problem)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _bug)
    return app


def _respond(problem: Problem) -> Response:
    response = Response(problem.body(context().request_id), problem.status)
    for name, value in problem.header_pairs():
        response.headers[name] = value
    return response


async def _problem(error: ProblemError) -> Response:
    return _respond(error.problem)


async def _http_error(error: HTTPException) -> Response:
    """What Quart itself refuses: unknown paths and methods."""
    status = error.code or 500
    headers: tuple[tuple[str, str], ...] = ()
    allowed: Any = getattr(error, "valid_methods", None)
    if allowed:
        headers = (("Allow", ", ".join(sorted(allowed))),)
    details = {404: "No such path", 405: "This path does not answer that method"}
    return _respond(Problem(status, details.get(status, error.name), headers=headers))


async def _bug(error: Exception) -> Response:
    log.error("request crashed", exc_info=error)
    return _respond(Problem.crash())
