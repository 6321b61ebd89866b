"""The pull model on the server's side: what an attempt at a build may fetch and bring by signed URLs.

Each URL but that of the log works once: it is used up when a request with it is let in, before the first byte
of the request's body. What is brought goes to the build piece by piece; the build says when a request is
answered.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import trio

from strata.executor.protocol.arrow_framing import FramingError
from strata.executor.protocol.messages import ARROW_STREAM, BuildDescription
from strata.executor.protocol.signed_urls import UrlSigner
from strata.outcomes import Reason, RefusalError, Refused

DOWNLOAD: Final = "download"
UPLOAD: Final = "upload"
FINALIZE: Final = "finalize"
LOG: Final = "log"

DOWNLOAD_PATH: Final = "/v1/artifacts/download"
UPLOAD_PATH: Final = "/v1/artifacts/upload"

REPORT_BYTES: Final = 64 * 1024
"""Most bytes of the body of ``finalize`` and ``log``."""

LOG_VALUES: Final = ("stream", "seq")
"""What an executor adds to the URL of the log, unsigned."""

MOST_LOGS: Final = 10_000
"""Most times that an attempt may append to its build's log."""

OVER: Final = Refused(Reason.BAD_REQUEST, "The build has ended.", "build_ended")


class UploadCutError(FramingError):
    """The connection of an upload has ended before its last byte; who has ended it is not known."""


@attrs.frozen
class PulledInput:
    """An input that can be fetched.

    Attributes:
        artifact_id: The result that it is.
        version: The version of it.
        descriptor: Its open file, which the build closes.
        size: Bytes of it.
    """

    artifact_id: str
    version: int
    descriptor: int
    size: int


@attrs.define(eq=False)
class Pull:
    """One attempt at a build: what it may still do, and what it has brought.

    Attributes:
        tenant: The tenant of the build.
        description: The build and the attempt.
        inputs: What can be fetched, in the caller's order.
        max_bytes: Most bytes of the result.
        note: Takes what the transform prints.
        left: What was not used yet: the operation with the number of the input, or 0.
        over: Why nothing more is taken; None while something is.
        report: The body of ``finalize``, once it was called.
    """

    tenant: str
    description: BuildDescription
    inputs: Sequence[PulledInput]
    max_bytes: int
    note: Callable[[str], None]
    left: set[tuple[str, int]] = attrs.field(init=False)
    over: Refused | None = None
    report: Mapping[str, Any] | None = None
    logs: int = 0
    _sender: trio.MemorySendChannel[bytes] = attrs.field(init=False)
    _pieces: trio.MemoryReceiveChannel[bytes] = attrs.field(init=False)
    _whole: bool = attrs.field(default=False, init=False)
    _taken: int | None = attrs.field(default=None, init=False)
    _done: Mapping[str, Any] | None = attrs.field(default=None, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        """Permit each operation once."""
        self.left = {(DOWNLOAD, index) for index in range(len(self.inputs))} | {(UPLOAD, 0), (FINALIZE, 0)}
        self._sender, self._pieces = trio.open_memory_channel[bytes](0)

    def use(self, op: str, index: int) -> bool:
        """Use a URL up; returns whether it was not used before."""
        if self.over is not None:
            return False
        if op == LOG:
            self.logs += 1
            return self.logs <= MOST_LOGS
        if (op, index) not in self.left:
            return False
        self.left.remove((op, index))
        return True

    # The requests' side.

    def opened_input(self, index: int) -> tuple[int, int]:
        """Return a descriptor of an input's file, which the caller closes, and its bytes.

        Raises:
            OSError: If the process has no descriptor left.
        """
        one = self.inputs[index]
        return os.dup(one.descriptor), one.size

    async def bring(self, pieces: AsyncIterator[bytes]) -> int | Refused:
        """Hand the result to the build; returns its bytes once the build has all of them, or its refusal."""
        try:
            async with self._sender:
                async for piece in pieces:
                    await self._sender.send(piece)
                self._whole = True
        except trio.BrokenResourceError:
            pass  # the build has ended
        finally:
            self._wake()
        await self._until(lambda: self._taken is not None)
        return self._refused() if self._taken is None else self._taken

    async def finalize(self, report: Mapping[str, Any]) -> Mapping[str, Any] | Refused:
        """Tell the build that its result is whole; returns what became of it."""
        if self._taken is None:
            refused = Refused(Reason.BAD_REQUEST, "Nothing was uploaded before.", "nothing_uploaded")
            self.end(refused)
            return refused
        self.report = report
        self._wake()
        await self._until(lambda: self._done is not None)
        return self._refused() if self._done is None else self._done

    # The build's side.

    async def brought(self) -> AsyncIterator[bytes]:
        """Yield the result as it is brought.

        Raises:
            UploadCutError: If its sender leaves in the middle.
            RefusalError: If the attempt has ended.
        """
        try:
            async for piece in self._pieces:
                yield piece
        except trio.ClosedResourceError:
            raise RefusalError(self._refused()) from None
        if not self._whole and self.over is None:
            raise UploadCutError("its upload was cut off")

    def take(self, size: int) -> None:
        """Answer the upload: the build has it."""
        self._taken = size
        self._wake()

    async def reported(self) -> Mapping[str, Any] | None:
        """Wait for ``finalize``; None if the attempt ends without it."""
        await self._until(lambda: self.report is not None)
        return self.report

    def done(self, answer: Mapping[str, Any]) -> None:
        """Answer ``finalize``: the result is ready."""
        self._done = answer
        self._wake()

    def end(self, refused: Refused = OVER) -> None:
        """Take nothing more; does nothing when repeated."""
        if self.over is None:
            self.over = refused
            self._pieces.close()
            self._wake()

    def _refused(self) -> Refused:
        return self.over or OVER

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds() and self.over is None:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@attrs.frozen
class Grant:
    """A request by a signed URL that was let in.

    Attributes:
        pull: The attempt that it belongs to.
        index: The number of the input.
    """

    pull: Pull
    index: int


@attrs.define(eq=False)
class PullBook:
    """The attempts under way in this process, by build.

    Attributes:
        signer: Signs and verifies the URLs.
        pulls: By build.
    """

    signer: UrlSigner = attrs.field(factory=UrlSigner)
    pulls: dict[str, Pull] = attrs.field(factory=dict)

    def begin(self, pull: Pull, base: str, seconds: float) -> dict[str, Any]:
        """Let an attempt in, in place of an earlier one at the same build; returns its manifest.

        Args:
            pull: The attempt.
            base: Base URL at which the executor reaches this process.
            seconds: Seconds for which the URLs work.
        """
        build_id = pull.description.build_id
        self.end(build_id)
        self.pulls[build_id] = pull
        expires_at = self.signer.clock() + seconds
        attempt = str(pull.description.attempt)

        def url(op: str, path: str, **values: str) -> dict[str, Any]:
            query = self.signer.sign(pull.tenant, op, {**values, "attempt": attempt}, expires_at)
            return {"url": f"{base.rstrip('/')}{path}?{query}", "expires_at": expires_at}

        inputs = [
            {
                "name": head.name,
                "format": head.format,
                "byte_size": one.size,
                "artifact_id": one.artifact_id,
                "version": one.version,
            }
            | url(
                DOWNLOAD,
                DOWNLOAD_PATH,
                build_id=build_id,
                input=str(index),
                artifact_id=one.artifact_id,
                version=str(one.version),
            )
            for index, (head, one) in enumerate(zip(pull.description.inputs, pull.inputs, strict=True))
        ]
        most = pull.max_bytes
        output = {"method": "POST", "max_bytes": most, "content_type": ARROW_STREAM}
        described = pull.description.as_json()
        return {
            "protocol_version": described["protocol_version"],
            "build_id": build_id,
            "attempt": pull.description.attempt,
            "metadata": described
            | {"executor_ref": pull.description.ref, "params": dict(pull.description.params)},
            "inputs": inputs,
            "output": output | url(UPLOAD, UPLOAD_PATH, build_id=build_id, max_bytes=str(most)),
            "finalize_url": url(FINALIZE, f"/v1/builds/{build_id}/finalize", build_id=build_id)["url"],
            "log_url": url(LOG, f"/v1/builds/{build_id}/log", build_id=build_id)["url"],
        }

    def end(self, build_id: str, refused: Refused = OVER) -> None:
        """Take nothing more for a build; does nothing when repeated."""
        pull = self.pulls.pop(build_id, None)
        if pull is not None:
            pull.end(refused)

    def redeem(self, op: str, build_id: str | None, values: Mapping[str, str]) -> Grant | bool:
        """Let a request in, once.

        Args:
            op: What it asks for.
            build_id: The build in its path; None if it has none there.
            values: All values of its query.

        Returns the grant; False if the URL was not signed for this, or has expired; True if it was signed
        and is used up.
        """
        if op == LOG:  # its sender adds which part of the log it is
            values = {key: value for key, value in values.items() if key not in LOG_VALUES}
        pull = self.pulls.get(values.get("build_id", ""))
        tenant = "" if pull is None else pull.tenant
        signed = self.signer.verifies(tenant, op, values)
        if not signed or pull is None or build_id not in (None, values["build_id"]):
            return False
        if values["attempt"] != str(pull.description.attempt):
            return True  # an attempt that another one has followed
        index = int(values.get("input", "0"))
        return Grant(pull, index) if pull.use(op, index) else True
