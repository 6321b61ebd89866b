"""Read a result as another format: slice by slice, in the work pool, in memory that its tenant reserves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import attrs
import pyarrow as pa
import structlog

from strata.executor.protocol.arrow_framing import FramingError
from strata.http.door.context import Context
from strata.http.formats.exact_text import FormatError
from strata.http.formats.messages import BATCH, Decoder, Head, Messages
from strata.http.formats.writers import Writer
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.limits.slots import Lease
from strata.tenants.shared.byte_stream import ByteStream

UNSUPPORTED: Final = "format_unsupported"
"""Code of the refusal of a result that a format cannot hold."""

LEAST_MEMORY: Final = 16 << 20
"""Least bytes of memory that a conversion reserves."""

COPIES: Final = 4
"""Memory for a record batch, as a multiple of its message: received, decoded, and a slice of it written."""

MEMORY_SECONDS: Final = 30.0
"""Most seconds that a conversion waits for memory."""

_UNREADABLE: Final = Refused(Reason.DATA_UNREADABLE, "The stored result is no sound Arrow stream.")

T = TypeVar("T")

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class Conversion:
    """A result in another format, in the place of its bytes.

    Attributes:
        stream: The result's bytes.
        writer: Writes the format.
        context: The request; its tenant takes the turns in the work pool and reserves the memory.
        limit: Rows after which it ends; None for all.
        start: Bytes of the format so far.
        stop: None: how many there will be is not known.
        size: None, as ``stop``.
        begun_rows: Whether some rows were written, or there are none.
    """

    stream: ByteStream
    writer: Writer
    context: Context
    limit: int | None = None
    start: int = 0
    stop: int | None = None
    size: int | None = None
    begun_rows: bool = False
    _messages: Messages = attrs.field(factory=Messages)
    _decoder: Decoder = attrs.field(factory=Decoder)
    _lease: Lease | None = None
    _slices: Iterator[bytes] | None = None
    _begun: bool = False
    _over: bool = False

    async def chunk(self, limit: int | None = None) -> bytes | None:
        """Return the next bytes; None at the end. ``limit`` does not apply.

        Raises:
            RefusalError: If the result cannot be read or written, or there is no memory for it.
        """
        del limit
        while not self._over:
            found = await self._advance()
            if found:
                self.start += len(found)
                return found
        return None

    async def load(self) -> bytes | None:
        """Return the next bytes, as :meth:`chunk`: they are in no file."""
        return await self.chunk()

    async def whole(self) -> None:
        """Do nothing: the size is known when the last byte is written."""

    def narrow(self, start: int, stop: int) -> None:
        """End it: only an answer to HEAD has no byte of its body."""
        del start, stop
        self._over = True

    def delivered(self) -> None:
        """Note that the last byte was sent."""
        self.stream.delivered()

    def close(self) -> None:
        """Close the result and give its memory back; does nothing when repeated."""
        self._over, self._slices = True, None
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()
        self.stream.close()

    async def _advance(self) -> bytes:
        """Write one slice, or read one message; returns what there is to send of it."""
        if self._slices is not None:
            written = await self._compute(next, self._slices, None)
            if written is None:
                self._slices = None
            self.begun_rows |= written is not None
            return written or b""
        head = await self._head()
        if head is None or (self._begun and self.limit == 0):
            self._over = self.begun_rows = True
            return await self._compute(self.writer.end)
        await self._reserve(COPIES * (head.size + self._decoder.nbytes))
        while (message := self._messages.take(head.size)) is None:
            await self._receive()
        if head.kind == BATCH:
            self._slices = self._write(message)
            return b""
        await self._compute(self._decoder.keep, head, message)
        if self._begun:
            return b""
        self._begun = True
        return await self._compute(self.writer.begin, self._decoder.schema)

    async def _head(self) -> Head | None:
        """Return the head of the next message, None at the stream's end."""
        while True:
            try:
                head = self._messages.head()
            except FramingError:
                raise RefusalError(_UNREADABLE) from None
            if head is not None or self._messages.ended:
                return head
            await self._receive()

    async def _receive(self) -> None:
        """Take the next bytes of the result."""
        data = await self.stream.chunk()
        if data is None:
            raise RefusalError(_UNREADABLE)  # it has no end-of-stream marker
        self._messages.feed(data)

    async def _reserve(self, nbytes: int) -> None:
        """Reserve at least ``nbytes`` of memory for the tenant.

        Raises:
            RefusalError: UNAVAILABLE, if there is none within :data:`MEMORY_SECONDS`.
        """
        if self._lease is not None:
            if self._lease.claim.size >= nbytes:
                return
            self._lease.release()  # never holds some and waits for more
        tenant = self.context.caller.tenant
        self._lease = self.context.registry.resources.memory.queue(tenant, max(nbytes, LEAST_MEMORY))
        self.context.admission.release()
        found = await self._lease.wait(MEMORY_SECONDS)
        if isinstance(found, Refused):
            raise RefusalError(found)

    def _write(self, message: Sequence[bytes]) -> Iterator[bytes]:
        """Write the rows of a message, slice by slice."""
        for batch in self._decoder.batches(message):
            rows = self._rows_of_slice(batch)
            for begin in range(0, batch.num_rows, rows):
                part = batch.slice(begin, rows if self.limit is None else min(rows, self.limit))
                if self.limit is not None:
                    self.limit -= part.num_rows
                if part.num_rows:
                    yield self.writer.write(part)

    def _rows_of_slice(self, batch: pa.RecordBatch) -> int:
        """Return how many rows are written at a time, by the size of a row on average."""
        row_bytes = max(1, batch.nbytes // max(1, batch.num_rows))
        by_bytes = self.writer.slice_bytes // row_bytes
        by_values = self.writer.slice_values // max(1, batch.num_columns)
        return int(max(1, min(by_bytes, by_values)))

    async def _compute(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in the work pool.

        Raises:
            RefusalError: UNPROCESSABLE if the format cannot hold the result.
        """

        def run() -> T:
            try:
                return function(*arguments)
            except FormatError as error:
                words = f"The result cannot be written exactly in this format: {error}. Ask for Arrow."
                raise RefusalError(Refused(Reason.UNPROCESSABLE, words, UNSUPPORTED)) from None
            except pa.ArrowException as error:
                log.warning("result cannot be converted", error=str(error)[:200])
                raise RefusalError(_UNREADABLE) from None

        return await self.context.compute(run)
