"""Decode a result as it arrives, and check it against the row count that the server announced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import pyarrow as pa

from strata.client.decoder import StreamDecoder
from strata.client.errors import TruncatedStreamError

ARROW_STREAM = "application/vnd.apache.arrow.stream"

ProgressCallback = Callable[[int, int | None], None]
"""Called after each chunk with the bytes received so far, and the rows of the whole result when known."""


class ResultDecoder:
    """Decodes the body of one answer.

    Attributes:
        artifact_uri: URI of the artifact, if the server states it.
        total_rows: Rows of the whole result, if the server states them.
        received: Bytes received so far.
        rows: Rows received so far.
    """

    def __init__(self, headers: Mapping[str, str], progress: ProgressCallback | None = None) -> None:
        self.artifact_uri = headers.get("x-strata-artifact-uri")
        count = headers.get("x-arrow-row-count", "")
        self.total_rows = int(count) if count.isascii() and count.isdigit() else None
        self.received = 0
        self.rows = 0
        self._progress = progress
        self._decoder = StreamDecoder()

    @property
    def schema(self) -> pa.Schema | None:
        """The result's schema; ``None`` until it has arrived."""
        return self._decoder.schema

    def feed(self, chunk: bytes) -> list[pa.RecordBatch]:
        """Decode a chunk; returns the batches it completes.

        Raises:
            BadAnswerError: If the bytes are not an Arrow stream.
        """
        batches = self._decoder.feed(chunk)
        self.received += len(chunk)
        self.rows += sum(batch.num_rows for batch in batches)
        if self._progress is not None:
            self._progress(self.received, self.total_rows)
        return batches

    def finish(self) -> pa.Schema:
        """End the body; returns the schema.

        Raises:
            TruncatedStreamError: If the stream is incomplete, or has another number of rows than announced.
        """
        schema = self._decoder.finish()
        if self.total_rows is not None and self.rows != self.total_rows:
            raise TruncatedStreamError(
                f"The result has {self.rows} rows where {self.total_rows} were announced."
            )
        return schema

    def broken(self, error: Exception) -> TruncatedStreamError:
        """Return the error for a connection that failed inside the body."""
        reason = str(error) or type(error).__name__
        return TruncatedStreamError(
            f"The connection broke after {self.received} bytes of the result: {reason}"
        )


class IncomingResult:
    """State of a result while it arrives, shared by both kinds of stream."""

    def __init__(self, decoder: ResultDecoder) -> None:
        self._decoder = decoder
        self._ready: deque[pa.RecordBatch] = deque()
        self._over = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.artifact_uri}, {self._decoder.rows} of {self.total_rows} rows>"

    @property
    def schema(self) -> pa.Schema:
        """The result's schema; available before the first batch, and in an empty result."""
        assert self._decoder.schema is not None
        return self._decoder.schema

    @property
    def artifact_uri(self) -> str | None:
        """URI of the artifact, if the server states it."""
        return self._decoder.artifact_uri

    @property
    def total_rows(self) -> int | None:
        """Rows of the whole result, if the server states them."""
        return self._decoder.total_rows

    def _awaits_schema(self) -> bool:
        return self._decoder.schema is None and not self._over
