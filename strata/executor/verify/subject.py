"""The executor under verification, and requests to it, right and wrong ones."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import pyarrow as pa
import trio

from strata.executor.protocol.arrow_framing import ArrowFraming, check_values
from strata.executor.protocol.messages import ARROW_STREAM, METADATA, BuildDescription, InputHead
from strata.executor.protocol.multipart import MultipartBody, Part
from strata.http.calling.addresses import AddressRules
from strata.http.calling.exchange import call

ANSWER_SECONDS: Final = 60.0
"""Seconds for the answer to one request of a check."""

MOST_BYTES: Final = 256 * 1024 * 1024
"""Most bytes of an answer that are read."""


class CheckFailed(Exception):  # noqa: N818  # it is the outcome of a check
    """An executor does not keep what a check verifies; the message says what it did."""


@attrs.frozen
class Reply:
    """An answer of the executor, whole.

    Attributes:
        status: Its status.
        headers: Its headers by name in lower case; of one that was sent twice, the last.
        body: Its body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            CheckFailed: If it is none.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise CheckFailed(f"the answer ({self.status}) is no JSON") from None

    def rows(self) -> pa.Table:
        """Return the rows, after all of the stream was checked.

        Raises:
            CheckFailed: If the answer is no result.
            FramingError: If it is no sound Arrow stream.
        """
        if self.status != 200:  # noqa: PLR2004  # OK
            raise CheckFailed(f"a right build was answered {self.status}: {self.body[:200]!r}")
        framing = ArrowFraming()
        framing.feed(self.body)
        framing.finish()
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.body)
            file.flush()
            for _ in check_values(Path(file.name)):
                pass
        return pa.ipc.open_stream(self.body).read_all()


@attrs.frozen
class Subject:
    """An executor, and the build that it can do.

    Attributes:
        url: Its base URL.
        token: Its bearer token; None: it demands none.
        ref: The transform of the builds.
        params: Its parameters, for one input of the columns id and name.
    """

    url: str
    token: str | None
    ref: str
    params: Mapping[str, Any]

    def description(self, **changes: Any) -> dict[str, Any]:
        """Return the description of a right build, with some keys changed."""
        what = BuildDescription(f"verify-{os.urandom(8).hex()}", self.ref, self.params, [InputHead("input0")])
        return {**what.as_json(), **changes}

    async def execute(
        self,
        description: object,
        inputs: Sequence[bytes] | None = None,
        *,
        token: str | None = "",
        body: MultipartBody | None = None,
        content_type: str | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> Reply:
        """Ask for a build and return the whole answer.

        Args:
            description: Its metadata part; bytes as they are, anything else as JSON.
            inputs: The inputs; by default one of three rows.
            token: The token to send instead of the right one; None: none.
            body: The body to send instead.
            content_type: The media type to send instead.
            seconds: For the answer.
        """
        text = description if isinstance(description, bytes) else json.dumps(description).encode()
        given = [rows(3)] if inputs is None else inputs
        parts = [Part(METADATA, "metadata.json", "application/json", text)]
        parts += [
            Part(f"input{index}", f"input{index}.arrow", ARROW_STREAM, data)
            for index, data in enumerate(given)
        ]
        sent = body or MultipartBody(parts)
        headers = [
            ("Content-Type", content_type or sent.content_type),
            ("X-Strata-Executor-Protocol", "v1"),
            *self.bearer(token),
        ]
        return await self.ask("POST", "/v1/execute", headers, sent, seconds=seconds)

    def bearer(self, token: str | None = "") -> list[tuple[str, str]]:
        """Return the header with the token: the right one for an empty text."""
        token = self.token if token == "" else token
        return [] if token is None else [("Authorization", f"Bearer {token}")]

    async def ask(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        body: MultipartBody | Text | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
    ) -> Reply:
        """Send a request and return the whole answer.

        Raises:
            CheckFailed: If it does not come in time.
        """
        with trio.move_on_after(seconds):
            async with call(
                method,
                self.url + path,
                rules=AddressRules(private=True),
                headers=headers,
                body=body,
                size=0 if body is None else body.size,
            ) as response:
                found = await response.read(MOST_BYTES)
                return Reply(response.status, dict(response.headers), found)
        raise CheckFailed(f"no answer within {seconds:g} seconds")

    async def health(self) -> Reply:
        """Ask for its health, without a token."""
        return await self.ask("GET", "/health")


@attrs.frozen
class Text:
    """A body of some bytes."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        yield self.data


def rows(count: int) -> bytes:
    """Return an input of some rows: ``id`` (int64) and ``name`` (string)."""
    batch = pa.record_batch(
        {"id": pa.array(range(count), pa.int64()), "name": pa.array([f"row {i}" for i in range(count)])}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
