"""The application inside the front door: Quart-Trio, its routes, its errors as problems, its description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, cast

import structlog
from quart import Response, request
from quart_schema import Info, QuartSchema, Tag
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from strata import __version__
from strata.http.api.converters import NameConverter, VersionConverter
from strata.http.api.openapi import SECURITY, SECURITY_SCHEME, Description
from strata.http.api.query_params import values_of
from strata.http.api.responses import respond
from strata.http.door.context import SCOPE_KEY, Context
from strata.http.door.cross_site import refuse_body
from strata.http.door.routing import SLASH, Call, Route, answer, problem_answer
from strata.http.problems import Problem, ProblemError
from strata.http.routes import ROUTES

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
    Tag("registry", "What is known of results, and what was done to them"),
    Tag("tables", "What there is to read"),
    Tag("executors", "What executors fetch and bring by signed URLs"),
    Tag("notebooks", "Notebooks, their revisions and their graphs"),
    Tag("operations", "For operators"),
    Tag("administration", "Tenants and their limits"),
]


def create_app(*, personal: bool) -> QuartTrio:
    """Return the application, which :class:`~strata.http.door.front_door.FrontDoor` encloses.

    Args:
        personal: Whether in personal mode, which knows no identities.
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
    # A path is what was sent. Merging slashes would redirect to the Host header's name, and hide names with
    # two of them.
    app.url_map.merge_slashes = False
    app.url_map.converters |= {"version": VersionConverter, "name": NameConverter}
    for route in ROUTES:
        app.add_url_rule(route.path, f"{route.method} {route.path}", _view(route), methods=[route.method])
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _bug)
    return app


def _view(route: Route) -> Callable[..., Awaitable[Response]]:
    """Return the application's view of a route, with its handler's description."""

    @wraps(route.handler)
    async def view(**parts: object) -> Response:
        found = _context()
        headers, body = tuple(request.scope["headers"]), await request.get_data()
        refused = refuse_body(request.method, headers, cast("bytes", body))
        if refused is not None:
            return await _refuse(refused)
        try:
            query = values_of(request.args)
        except ProblemError as error:
            return await _refuse(error.problem)
        whole = {key: one.replace(SLASH, "/") if isinstance(one, str) else one for key, one in parts.items()}
        call = Call(found, whole, headers, cast("bytes", body), query)
        return await respond(await answer(route.handler, call), found)

    return view


def _context() -> Context:
    scope = cast("dict[str, Context]", request.scope)  # ASGI scopes are open
    return scope[SCOPE_KEY]


async def _refuse(problem: Problem) -> Response:
    found = _context()
    return await respond(problem_answer(problem, found), found)


async def _http_error(error: HTTPException) -> Response:
    """Answer what Quart itself refuses: unknown paths and methods."""
    status = error.code or 500
    headers: tuple[tuple[str, str], ...] = ()
    allowed: Any = getattr(error, "valid_methods", None)
    if allowed:
        headers = (("Allow", ", ".join(sorted(allowed))),)
    details = {404: "No such path", 405: "This path does not answer that method"}
    return await _refuse(Problem(status, details.get(status, error.name), headers=headers))


async def _bug(error: Exception) -> Response:
    log.error("request crashed", exc_info=error)
    return await _refuse(Problem.crash())
