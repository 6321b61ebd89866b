"""The server's side of the protocol: ask one executor to run a build, and read its answer as it comes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import attrs
import trio

from strata.executor.protocol.circuit_breaker import CircuitBreaker
from strata.executor.protocol.messages import (
    ATTEMPT_HEADER,
    BUILD_HEADER,
    METADATA,
    PROTOCOL_HEADER,
    VERSION,
    BuildDescription,
    Health,
)
from strata.executor.protocol.multipart import MultipartBody, Part
from strata.http.calling.addresses import AddressRules, UrlError
from strata.http.calling.exchange import CallError, Response, call
from strata.tracing.spans import child, trace_headers

HEALTH_SECONDS: Final = 8.0
"""Seconds to answer ``GET /health``; then the executor is not healthy."""

CANCEL_SECONDS: Final = 5.0
"""Seconds for an executor to take a cancellation; then its own deadline ends the build."""

MOST_ATTEMPTS: Final = 3
"""Most attempts at a build: only one that the executor has not begun is repeated."""

PAUSE_SECONDS: Final = 0.5
"""Seconds before the second attempt, doubled before each further one."""

MOST_PAUSE_SECONDS: Final = 10.0
"""Most seconds between two attempts, whatever the executor asks for."""

ERROR_BYTES: Final = 64 * 1024
"""Most bytes of an answer that says what went wrong; the rest is not read."""

MESSAGE_CHARACTERS: Final = 2000
"""Most characters of an executor's message; the rest is cut."""

JSON_BYTES: Final = 1024 * 1024
"""Most bytes of any other JSON answer."""

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class ExecutorError(Exception):
    """An executor did not run a build, or failed; the message is for the user.

    Attributes:
        code: A stable word: ``executor_unreachable``, ``executor_busy``, ``executor_unavailable`` (the
            circuit is open), ``executor_broken``, ``executor_unauthorized``, ``executor_redirects``,
            ``executor_timeout``, ``executor_failed``, ``executor_protocol``, or the transform's own code.
        own: Whether the transform itself failed, as by an error in its parameters: the executor is sound.
        begun: Whether the executor may have begun with the build.
        retry_after: Seconds that the executor asks to wait; None if it asks for none.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        own: bool = False,
        begun: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.own = own
        self.begun = begun
        self.retry_after = retry_after


def base_of(url: str) -> str:
    """Return the base of an executor's URL, which may be given with the path of the protocol."""
    return url.rstrip("/").removesuffix("/v1/execute")


@attrs.frozen(eq=False)
class Executor:
    """An executor, as a server calls it; one object for each executor, for its circuit breaker is shared.

    Attributes:
        url: Its base URL, without ``/v1/execute``.
        token: The bearer token that it demands; None if it demands none.
        rules: Which addresses it may have.
        breaker: Refuses calls for a while after too many failed.
    """

    url: str = attrs.field(converter=base_of)
    token: str | None = attrs.field(default=None, repr=False)
    rules: AddressRules = attrs.field(factory=lambda: AddressRules(private=True))
    breaker: CircuitBreaker = attrs.field(factory=CircuitBreaker)

    @asynccontextmanager
    async def execute(
        self, description: BuildDescription, parts: Sequence[Part] = (), *, media_type: str
    ) -> AsyncIterator[Response]:
        """Run a build by the push model: its inputs are sent, and the block has the answer, status 200.

        An attempt that the executor has not begun is repeated after a pause, with the number of the next
        attempt; nothing else is. The caller sets the deadline of the whole and reads the answer in the block.

        Args:
            description: What to run.
            parts: The inputs, in their order.
            media_type: Media type that the answer must have.

        Raises:
            ExecutorError: If the executor does not answer with a result, or its answer is cut off.
        """
        attempt = description.attempt
        while True:
            body = _body(attrs.evolve(description, attempt=attempt), parts)
            headers = [
                *self._headers(),
                ("Content-Type", body.content_type),
                ("Accept", media_type),
                (BUILD_HEADER, description.build_id),
                (ATTEMPT_HEADER, str(attempt)),
            ]
            try:
                async with self._called("POST", "/v1/execute", headers, body) as response:
                    await _check(response)
                    self._check_kind(response, media_type)
                    yield response
                    return
            except ExecutorError as error:
                pause = self.pause_after(error, attempt - description.attempt + 1)
                if pause is None:
                    raise
            attempt += 1
            await trio.sleep(pause)

    def pause_after(self, error: ExecutorError, tried: int) -> float | None:
        """Return the seconds before the next attempt; None if there is none.

        Args:
            error: How the last attempt ended.
            tried: Attempts so far.
        """
        if error.begun or error.own or self.breaker.is_open or tried >= MOST_ATTEMPTS:
            return None
        return min(error.retry_after or PAUSE_SECONDS * 2 ** (tried - 1), MOST_PAUSE_SECONDS)

    async def execute_manifest(self, manifest: dict[str, object]) -> dict[str, object]:
        """Run a build by the pull model: the executor fetches and brings by the manifest's signed URLs.

        Returns its answer, once it has finished.

        Raises:
            ExecutorError: If it did not.
        """
        text = json.dumps(manifest).encode()
        headers = [*self._headers(), ("Content-Type", "application/json")]
        async with self._called("POST", "/v1/execute-manifest", headers, _Bytes(text)) as response:
            await _check(response)
            try:
                found = json.loads(await response.read(JSON_BYTES))
            except ValueError:
                found = None
            if not isinstance(found, dict):
                raise ExecutorError("executor_protocol", "The executor's answer is no JSON object.")
            return found

    async def cancel(self, build_id: str) -> None:
        """Tell the executor to end a build; what goes wrong is ignored, its own deadline ends it then."""
        with trio.move_on_after(CANCEL_SECONDS):
            try:
                path = f"/v1/executions/{build_id}/cancel"
                async with call(
                    "POST", self.url + path, rules=self.rules, headers=self._headers()
                ) as response:
                    await response.read(ERROR_BYTES)
            except (CallError, UrlError):
                return

    async def tell(
        self, build_id: str, what: str, body: AsyncIterable[bytes] | None = None, size: int = 0
    ) -> bool:
        """Tell the executor something about a build that it runs: an interrupt, the answer to a question.

        Returns whether it took it. What goes wrong shows in the build's own answer, too, and raises nothing.

        Raises:
            OSError: If the body cannot be read.
        """
        headers = self._headers()
        path = f"/v1/executions/{build_id}/{what}"
        try:
            async with call(
                "POST", self.url + path, rules=self.rules, headers=headers, body=body, size=size
            ) as response:
                await response.read(ERROR_BYTES)
                return response.status == HTTPStatus.OK
        except (CallError, UrlError):
            return False

    async def health(self) -> Health:
        """Ask the executor how it is; the circuit breaker is not asked, and learns the answer.

        Raises:
            ExecutorError: If it does not answer in time, or not with what a healthy executor says.
        """
        found = None
        try:
            with trio.move_on_after(HEALTH_SECONDS):
                async with call("GET", f"{self.url}/health", rules=self.rules) as response:
                    if response.status == HTTPStatus.OK:
                        found = Health.parse(await response.read(JSON_BYTES))
        except (CallError, UrlError) as error:
            self.breaker.failed()
            raise ExecutorError("executor_unreachable", f"The executor {error}.", begun=False) from None
        if found is None or found.status not in ("healthy", "ok"):
            self.breaker.failed()
            raise ExecutorError("executor_unhealthy", "The executor is not healthy.", begun=False)
        self.breaker.succeeded()
        return found

    def _headers(self) -> list[tuple[str, str]]:
        found = [("X-Strata-Executor-Protocol", VERSION)]
        if self.token is not None:
            found.append(("Authorization", f"Bearer {self.token}"))
        return found

    @asynccontextmanager
    async def _called(
        self, method: str, path: str, headers: Sequence[tuple[str, str]], body: MultipartBody | _Bytes
    ) -> AsyncIterator[Response]:
        """Call the executor, if its circuit is closed, and note how that went.

        A transform that fails says nothing against its executor; what fails on the caller's side neither.
        """
        if self.breaker.is_open:
            # The first one after the pause asks for the executor's health, before it sends anything large.
            if not self.breaker.may_try():
                detail = "The executor has failed too often; it is tried again in some seconds."
                raise ExecutorError(
                    "executor_unavailable", detail, begun=False, own=True, retry_after=self.breaker.seconds
                )
            await self.health()
        try:
            with child("executor", "client"):
                traced = [*headers, *trace_headers()]
                async with call(
                    method, self.url + path, rules=self.rules, headers=traced, body=body, size=body.size
                ) as response:
                    yield response
        except UrlError as error:
            self.breaker.failed()
            raise ExecutorError(
                "executor_unreachable", f"The executor's URL: {error}.", begun=False
            ) from None
        except CallError as error:
            self.breaker.failed()
            code = "executor_broken" if error.sent else "executor_unreachable"
            raise ExecutorError(code, f"The executor failed: {error}.", begun=error.sent) from None
        except ExecutorError as error:
            if not error.own and error.code != "executor_busy":
                self.breaker.failed()
            raise
        self.breaker.succeeded()

    @staticmethod
    def _check_kind(response: Response, media_type: str) -> None:
        version = response.header(PROTOCOL_HEADER)
        if version is not None and version != VERSION:
            raise ExecutorError("executor_protocol", "The executor answered in another protocol version.")
        kind = (response.header("content-type") or "").partition(";")[0].strip().lower()
        if kind != media_type:
            shown = kind[:64] if kind.isprintable() else ""
            raise ExecutorError(
                "executor_protocol",
                f"The executor answered with {shown or 'no type'} instead of {media_type}.",
            )


@attrs.frozen(eq=False)
class _Bytes:
    """A body of some bytes."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


def _body(description: BuildDescription, parts: Sequence[Part]) -> MultipartBody:
    text = json.dumps(description.as_json(), separators=(",", ":")).encode()
    return MultipartBody([Part(METADATA, "metadata.json", "application/json", text), *parts])


async def _check(response: Response) -> None:
    """Check the status of an answer.

    Raises:
        ExecutorError: If it is not 200.
    """
    status = response.status
    if status == HTTPStatus.OK:
        return
    if 300 <= status < 400:  # noqa: PLR2004  # redirects
        raise ExecutorError("executor_redirects", "The executor redirects elsewhere, which is not followed.")
    found: object = None
    if status >= 400:  # noqa: PLR2004  # errors
        try:
            found = json.loads(await response.read(ERROR_BYTES))
        except (ValueError, RecursionError, CallError):
            found = None
    facts = found if isinstance(found, dict) else {}
    message = next(
        (one for key in ("error_message", "error", "detail") if isinstance(one := facts.get(key), str)), ""
    )[:MESSAGE_CHARACTERS]
    message = "".join(one for one in message if one.isprintable() or one in "\n\t")
    code = facts.get("error_code")
    if status in _BUSY:
        asked = response.header("retry-after") or ""
        seconds = float(asked) if asked.isdigit() and len(asked) <= 5 else None  # noqa: PLR2004  # a day has five
        raise ExecutorError("executor_busy", "The executor is busy.", begun=False, retry_after=seconds)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise ExecutorError("executor_unauthorized", "The executor does not accept this server's token.")
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT):
        raise ExecutorError("executor_timeout", message or "The executor's time limit was over.", own=True)
    if isinstance(code, str) and _CODE.fullmatch(code):
        raise ExecutorError(code, message or f"The transform failed ({code}).", own=True)
    shown = f": {message}" if message else ""
    own = status < 500  # noqa: PLR2004  # the request's fault
    raise ExecutorError("executor_failed", f"The executor answered {status}{shown}", own=own)
