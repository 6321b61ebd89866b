"""The executor's side of the protocol, as a plain ASGI application."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import structlog
import trio

from strata import __version__
from strata.cells.bundle import SCHEMA
from strata.cells.runtime import own_runtime
from strata.config.sections.transforms import SQL
from strata.executor.protocol.cell_frames import CELL_STREAM
from strata.executor.protocol.messages import (
    ARROW_STREAM,
    METADATA,
    METADATA_BYTES,
    NOTEBOOK_CELL,
    VERSION,
    BuildDescription,
    DescriptionError,
    parse_description,
)
from strata.executor.protocol.multipart import MultipartError, MultipartReader, PartHead, boundary_of
from strata.executor.sidecar.builds import BuildDirectory, BuildError, BuildRunner
from strata.executor.sidecar.cells import LANGUAGES, CellService
from strata.executor.sidecar.pulling import Puller, parse_manifest
from strata.http.asgi import GONE_KEY, Receive, Scope, Send
from strata.http.door.cross_site import TrustedHosts
from strata.sandbox.frames import Frame, Kind
from strata.tracing.spans import NO_SPAN, RequestTracer, child, current

BODY_SECONDS: Final = 60.0
"""Seconds without a byte of a request's body after which it is given up."""

RETRY_SECONDS: Final = 5
"""Seconds after which a refused server may ask again."""

LOG_CHARACTERS: Final = 12 * 1024
"""Characters of what a transform prints that go into the answer's head."""

OF_A_PAGE: Final = (
    "Without a token, requests with an Origin, or with a Host that is not the loopback, are refused: a page "
    "in a browser may have sent them. Call the executor as 127.0.0.1, [::1] or localhost, or start it with "
    "--token-file."
)
"""Why a request is refused that a page could have had a browser send."""

_LOOPBACK: Final = TrustedHosts(checked=True, own=frozenset({"localhost"}))

_EXECUTION: Final = re.compile(
    r"/v1/executions/([A-Za-z0-9_.-]{1,128})/(cancel|interrupt|answers/([1-9][0-9]{0,5}))"
)

_Run: TypeAlias = "Callable[[BuildDirectory, Callable[[str], None]], Awaitable[None]]"

log = structlog.get_logger(__name__)


class _GoneError(Exception):
    """The server that called has left."""


@attrs.define(eq=False)
class ExecutorApp:
    """Answers the protocol's requests.

    Attributes:
        runner: Runs the builds.
        token: The bearer token that callers must have; None: none, on the loopback alone.
        most: Most builds at a time; further ones are refused with 503.
        cells: Runs cells of notebooks; None: they are not run here.
        running: The builds under way, by id.
        started: When it began, on Trio's clock.
        puller: Runs builds by manifests.
        tracer: Begins the spans of builds; None: they have none.
    """

    runner: BuildRunner
    token: str | None = attrs.field(default=None, repr=False)
    most: int = 2
    cells: CellService | None = None
    running: dict[str, trio.CancelScope] = attrs.field(factory=dict)
    started: float = attrs.field(factory=trio.current_time)
    puller: Puller = attrs.field(default=attrs.Factory(lambda self: Puller(self.runner), takes_self=True))
    tracer: RequestTracer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        method, path = scope["method"], scope["path"]
        if self.token is None and _is_of_a_page(scope["headers"]):
            await self._json(send, 403, {"detail": OF_A_PAGE})
            return
        if path == "/health" and method in ("GET", "HEAD"):
            await self._json(send, 200, self._health())
            return
        if not self._is_known(scope):
            await self._json(send, 401, {"detail": "The bearer token is missing or wrong."})
            return
        execution = _EXECUTION.fullmatch(path)
        if method == "POST" and path in ("/v1/execute", "/v1/execute-manifest"):
            execute = self._execute if path == "/v1/execute" else self._execute_manifest
            with NO_SPAN if self.tracer is None else self.tracer.begin(scope["headers"], method, path):
                await execute(scope, receive, send)
        elif method == "POST" and execution is not None and execution[2] == "cancel":
            found = self.running.get(execution[1])
            if found is not None:
                found.cancel()
            await self._json(send, 200, {"build_id": execution[1], "cancelled": found is not None})
        elif method == "POST" and execution is not None and self.cells is not None:
            await self._tell(self.cells, execution, receive, send)
        else:
            await self._json(send, 404, {"detail": "No such path"})

    async def _tell(self, cells: CellService, execution: re.Match[str], receive: Receive, send: Send) -> None:
        """Interrupt a cell that runs, or take the answer to its question."""
        try:
            if execution[3] is None:
                taken = cells.interrupt(execution[1])
            else:
                taken = await cells.take_answer(execution[1], int(execution[3]), _body(receive))
        except BuildError as error:
            await self._json(send, error.status, {"detail": str(error)})
        except _GoneError:
            return
        except OSError:
            log.exception("the answer to a cell cannot be kept")
            await self._json(send, 500, {"detail": "The answer cannot be written to the executor's disk."})
        else:
            status = 200 if taken else 404
            await self._json(send, status, {"build_id": execution[1], "taken": taken})

    def _is_known(self, scope: Scope) -> bool:
        if self.token is None:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], f"Bearer {self.token}".encode())

    def _health(self) -> dict[str, Any]:
        return {
            "status": "healthy",
            "capabilities": {
                "protocol_versions": [VERSION],
                "transform_refs": [*self.runner.refs, *([NOTEBOOK_CELL] if self.cells else [])],
                "features": self.runner.features() | self._cell_features(),
            },
            "version": __version__,
            "uptime_seconds": round(trio.current_time() - self.started, 3),
            "active_executions": len(self.running),
            "max_concurrent": self.most,
        }

    def _cell_features(self) -> dict[str, Any]:
        if self.cells is None:
            return {}
        return {
            "output_format": SCHEMA,
            "languages": list(LANGUAGES),
            "runtime_id": own_runtime(),
            "checks_runtime": True,
            "max_cells": self.cells.most,
            "active_cells": self.cells.places,
            "environments": self.cells.environments is not None,
            "environments_made": len(self.cells.environments.made) if self.cells.environments else 0,
        }

    def _has_place(self, cells: CellService | None) -> bool:
        """Return whether one more cell, or one more build, can run; neither takes a place of the other."""
        if cells is not None:
            return cells.places < cells.most
        return len(self.running) - (self.cells.places if self.cells else 0) < self.most

    async def _execute(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run a build whose inputs are in the request, and whose result is the answer."""
        accepts = dict(scope["headers"]).get(b"accept", b"")
        cells = self.cells if accepts == CELL_STREAM.encode() else None
        answer = _Answer(send, ARROW_STREAM if cells is None else CELL_STREAM)

        async def run(directory: BuildDirectory, begin: Callable[[str], None]) -> None:
            with child("receive"):
                what, inputs = await self._received(scope, receive, directory, cells)
            _note(what)
            begin(what.build_id)
            if cells is None:
                await self._run(what, directory, inputs, answer)
            else:
                await cells.run(what, directory, inputs, answer.write)

        await self._placed(scope, answer, cells, run)

    async def _execute_manifest(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run a build whose inputs are fetched, and whose result is brought, by the URLs of a manifest."""
        answer = _Answer(send, "application/json")

        async def run(directory: BuildDirectory, begin: Callable[[str], None]) -> None:
            text = bytearray()
            async for part in _body(receive):
                text += part
                if len(text) > METADATA_BYTES:
                    raise BuildError("InvalidRequest", f"The manifest has more than {METADATA_BYTES} bytes.")
            manifest = parse_manifest(bytes(text))
            self.runner.check(manifest.description)
            _note(manifest.description)
            begin(manifest.description.build_id)
            with trio.move_on_after(self.runner.limits.seconds) as deadline:
                await answer.write(json.dumps(await self.puller.run(manifest, directory)).encode())
            if deadline.cancelled_caught:
                raise _too_late(self.runner.limits.seconds)

        await self._placed(scope, answer, None, run)

    async def _placed(self, scope: Scope, answer: _Answer, cells: CellService | None, run: _Run) -> None:
        """Run a build in a place of its own, and answer with what went wrong."""
        if not self._has_place(cells):
            detail = (
                f"{self.most} builds run already." if cells is None else f"{cells.most} cells run already."
            )
            await self._json(answer.send, 503, {"detail": detail}, ("retry-after", str(RETRY_SECONDS)))
            return
        place = trio.CancelScope()
        keys = [f"receiving-{id(place)}"]
        self.running[keys[0]] = place
        if cells is not None:
            cells.places += 1
        tell_gone = scope.get(GONE_KEY)
        if tell_gone is not None:
            tell_gone(lambda: answer.ended or place.cancel())
        try:
            with place:
                try:
                    async with self.runner.directory() as directory:
                        await run(directory, lambda build_id: keys.append(self._begin(keys[0], build_id)))
                finally:  # before the answer's last byte: its caller may ask for the next build at once
                    self.running.pop(keys[-1], None)
                    if cells is not None:
                        cells.places -= 1
                await answer.end()
        except BuildError as error:
            span = current()
            if span is not None:
                span.fail(error.kind)
            await answer.fail(error)
            return
        except (MultipartError, DescriptionError) as error:
            await answer.fail(BuildError("InvalidRequest", str(error)))
            return
        except _GoneError:
            return
        if place.cancelled_caught:
            await answer.fail(BuildError("Cancelled", "The build was cancelled.", 500))

    def _begin(self, key: str, build_id: str) -> str:
        """Note a build by its own id, for its cancellation; returns the key that it has."""
        if build_id in self.running:
            raise BuildError("AlreadyRunning", "This build runs here already.", 409)
        self.running[build_id or key] = self.running.pop(key)
        return build_id or key

    async def _run(
        self, what: BuildDescription, directory: BuildDirectory, inputs: list[Path], answer: _Answer
    ) -> None:
        seconds = self.runner.limits.seconds
        asked = what.params.get("timeout_seconds")
        if isinstance(asked, int | float) and 0 < asked < seconds and what.ref != SQL:
            seconds = float(asked)
        with trio.move_on_after(seconds) as scope:
            async for frame in self.runner.run(what, directory, inputs):
                await answer.frame(frame)
        if scope.cancelled_caught:
            raise _too_late(seconds)

    async def _received(
        self, scope: Scope, receive: Receive, directory: BuildDirectory, cells: CellService | None
    ) -> tuple[BuildDescription, list[Path]]:
        """Receive a request's parts: the description, and each input into a file."""
        kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        reader = MultipartReader(boundary_of(kind.decode("latin-1")))
        text, name, total = bytearray(), "", 0
        files: dict[str, trio.Path] = {}
        opened: Any = None
        try:
            async for found in reader.read(_body(receive)):
                if isinstance(found, PartHead):
                    if opened is not None:
                        await opened.aclose()
                        opened = None
                    name = found.name
                    if name != METADATA:
                        files[name] = trio.Path(directory.path / f"part{len(files)}")
                        files.setdefault(found.filename, files[name])
                        opened = await files[name].open("xb")
                    continue
                total += len(found)
                if total > self.runner.limits.input_bytes:
                    detail = f"The inputs have more than {self.runner.limits.input_bytes} bytes."
                    raise BuildError("InputTooLarge", detail, 413)
                if opened is not None:
                    await opened.write(found)
                else:
                    text += found
                    if len(text) > METADATA_BYTES:
                        raise MultipartError(f"The metadata part has more than {METADATA_BYTES} bytes.")
        finally:
            if opened is not None:
                with trio.CancelScope(shield=True):
                    await opened.aclose()
        what = parse_description(bytes(text))
        self._check(what, cells)
        sent = [one for one in what.inputs if one.table is None]
        paths = [files.get(one.file or one.name) or files.get(one.name) for one in sent]
        if None in paths:
            raise BuildError("MissingInput", "An input of the description has no part.")
        return what, [Path(one) for one in paths if one is not None]

    def _check(self, what: BuildDescription, cells: CellService | None) -> None:
        if cells is None:
            self.runner.check(what)
        elif what.ref != NOTEBOOK_CELL:
            raise BuildError("UnknownTransform", f"Only {NOTEBOOK_CELL} is answered with {CELL_STREAM}.")

    @staticmethod
    async def _json(send: Send, status: int, found: object, *more: tuple[str, str]) -> None:
        body = json.dumps(found).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-strata-executor-protocol", VERSION.encode()),
            *([(b"connection", b"close")] if status >= 400 else []),  # noqa: PLR2004  # the body may not be read
            *((name.encode(), value.encode()) for name, value in more),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _is_of_a_page(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether a page of a browser may have sent a request, also one whose host name was led here."""
    found = any(name == b"origin" for name, _ in headers)
    return found or _LOOPBACK.refuse_host(headers) is not None


@attrs.define(eq=False)
class _Answer:
    """The answer to a build: its head goes with the first rows, for an error until then has a status.

    Attributes:
        begun: Whether the head is sent.
        ended: Whether the last byte is.
        printed: What the transform has printed before.
        content_type: The media type of the answer.
    """

    send: Send
    content_type: str = ARROW_STREAM
    begun: bool = False
    ended: bool = False
    printed: str = ""

    async def frame(self, frame: Frame) -> None:
        if frame.kind is Kind.LOG:
            self.printed += frame.payload.decode("utf-8", "replace")
            return
        if frame.kind is Kind.DATA:
            await self.write(frame.payload)

    async def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        await self._begin()
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Send the last byte, once nothing of the build is left."""
        await self._begin()
        self.ended = True
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self) -> None:
        if self.begun:
            return
        self.begun = True
        headers = [
            (b"content-type", self.content_type.encode()),
            (b"x-strata-executor-protocol", VERSION.encode()),
        ]
        if self.printed:
            headers.append((b"x-strata-logs", base64.b64encode(self.printed[-LOG_CHARACTERS:].encode())))
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})

    async def fail(self, error: BuildError) -> None:
        """Answer with an error; once rows were sent, the connection is cut instead of ended."""
        log.info("build failed", code=error.kind)
        if self.begun:
            return  # without a last message the server cuts the connection
        self.begun = self.ended = True
        found = {
            "success": False,
            "error_code": error.code,
            "error_message": str(error),
            "error": str(error),
            "logs": self.printed[-LOG_CHARACTERS:],
        }
        with suppress(trio.BrokenResourceError):
            await ExecutorApp._json(self.send, error.status, found)  # noqa: SLF001  # of this module


def _note(what: BuildDescription) -> None:
    """Note on the request's span what is built."""
    span = current()
    if span is not None:
        span.set("strata.transform", what.ref)
        span.set("strata.build_id", what.build_id)
        span.set("strata.tenant", what.tenant)


def _too_late(seconds: float) -> BuildError:
    return BuildError("Timeout", f"The build did not end within {seconds:g} seconds.", 408)


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes.

    Raises:
        BuildError: 408 if no byte comes for too long.
    """
    more = True
    while more:
        with trio.move_on_after(BODY_SECONDS) as waiting:
            message = await receive()
        if waiting.cancelled_caught:
            raise BuildError("BodyTimeout", "The request's body did not arrive in time.", 408)
        if message["type"] == "http.disconnect":
            raise _GoneError
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]
