"""Decode a result as it arrives, and check it against what the server says of the whole of it.

A server that keeps receipts names the result's own in ``X-Strata-Receipt``. The client compares rows, bytes
and SHA-256 with it before a result counts as whole. A finished result has its SHA-256 in its strong ``ETag``,
too.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

import attrs
import pyarrow as pa

from strata.client.answers import Receipt
from strata.client.decoder import StreamDecoder
from strata.client.display.html import SHOWN_ROWS, table_html
from strata.client.display.progress import Progress, ProgressDisplay
from strata.client.errors import TruncatedStreamError

ARROW_STREAM = "application/vnd.apache.arrow.stream"

_PARTIAL = 206

_DIGEST = re.compile('"([0-9a-f]{64})"')


class ResultDecoder:
    """Decodes the body of one answer, or of several that carry on from each other.

    Attributes:
        artifact_uri: URI of the artifact, if the server states it.
        total_rows: Rows of the whole result, if the server states them.
        total_bytes: Bytes of the whole result, if the server states them.
        received: Bytes received so far.
        rows: Rows received so far.
        receipt_path: Path of the result's receipt, if the server keeps receipts.
    """

    def __init__(self, headers: Mapping[str, str], display: ProgressDisplay | None = None) -> None:
        self.artifact_uri = headers.get("x-strata-artifact-uri")
        self.total_rows = _number(headers.get("x-arrow-row-count", ""))
        packed = headers.get("content-encoding", "identity") != "identity"
        self.total_bytes = None if packed else _number(headers.get("content-length", ""))
        self.received = 0
        self.rows = 0
        self.receipt_path = headers.get("x-strata-receipt")
        tag = _DIGEST.fullmatch(headers.get("etag", ""))
        self._stated = tag[1] if tag is not None and self.receipt_path is not None else None
        self._digest = hashlib.sha256()
        self._display = display
        self._skip = 0
        self._received_before = -1
        self._decoder = StreamDecoder()
        self.breaks = 0

    @property
    def schema(self) -> pa.Schema | None:
        """The result's schema; ``None`` until it has arrived."""
        return self._decoder.schema

    def feed(self, chunk: bytes) -> list[pa.RecordBatch]:
        """Decode a chunk; returns the batches it completes.

        Raises:
            BadAnswerError: If the bytes are not an Arrow stream.
        """
        if self._skip:
            passed = min(self._skip, len(chunk))
            self._skip -= passed
            chunk = chunk[passed:]
        batches = self._decoder.feed(chunk)
        self.received += len(chunk)
        self._digest.update(chunk)
        self.rows += sum(batch.num_rows for batch in batches)
        if self._display is not None:
            self._display.show(self.progress)
        return batches

    @property
    def progress(self) -> Progress:
        """How much has arrived."""
        return Progress(self.rows, self.total_rows, self.received, self.total_bytes)

    def end_display(self, *, whole: bool) -> None:
        """Show the end; harmless when repeated."""
        display, self._display = self._display, None
        if display is not None:
            display.end(self.progress, whole=whole)

    def count_break(self) -> int:
        """Count a broken connection; returns the number of those since the last new byte, with this one."""
        self.breaks = self.breaks + 1 if self.received == self._received_before else 1
        self._received_before = self.received
        return self.breaks

    def carry_on(self, status: int, headers: Mapping[str, str]) -> bool:
        """Prepare for an answer with the rest of the result, or with all of it; returns whether it is that.

        The bytes before the rest are passed over: the receipt covers the bytes that were decoded.
        """
        other = headers.get("x-strata-artifact-uri")
        if other is not None and other != self.artifact_uri:
            return False
        if status == _PARTIAL:
            self._skip = 0
            begins = headers.get("content-range", "").startswith(f"bytes {self.received}-")
            return begins and headers.get("content-encoding", "identity") == "identity"
        self._skip = self.received
        return True

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

    @property
    def awaited_receipt(self) -> str | None:
        """Path of the receipt to compare the whole result with; ``None`` if its answer said enough.

        Raises:
            TruncatedStreamError: If the result is not the one that its answer names.
        """
        if self._stated is None:
            return self.receipt_path
        if self._digest.hexdigest() != self._stated:
            raise TruncatedStreamError(
                "The result is not the one that the server names: its SHA-256 differs."
            )
        return None

    def check(self, receipt: Receipt) -> None:
        """Compare the whole result with its receipt.

        Raises:
            TruncatedStreamError: If rows, bytes or SHA-256 differ.
        """
        found = {"rows": self.rows, "bytes": self.received, "SHA-256": self._digest.hexdigest()}
        stated = {"rows": receipt.rows, "bytes": receipt.bytes, "SHA-256": receipt.sha256}
        wrong = [f"{key} {found[key]}, not {stated[key]}" for key in found if found[key] != stated[key]]
        if wrong:
            raise TruncatedStreamError(f"The result is not what its receipt says: {'; '.join(wrong)}.")

    def broken(self, error: Exception) -> TruncatedStreamError:
        """Return the error for a connection that failed inside the body."""
        reason = str(error) or type(error).__name__
        return TruncatedStreamError(
            f"The connection broke after {self.received} bytes of the result: {reason}"
        )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


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


@attrs.frozen
class QueryResult:
    """The rows of a query; a notebook shows the first of them.

    Attributes:
        table: The rows as an Arrow table.
    """

    table: pa.Table = attrs.field(repr=lambda table: f"{table.num_rows} rows of {table.num_columns} columns")

    def _repr_html_(self) -> str:
        shown = self.table.slice(0, SHOWN_ROWS)
        rows = [tuple(row) for row in zip(*(column.to_pylist() for column in shown.columns), strict=True)]
        count = f"{self.table.num_rows:,} rows"
        return table_html(self.table.column_names, rows, count)

    def to_pandas(self) -> Any:
        """Return the rows as a pandas ``DataFrame``; pandas must be installed.

        Raises:
            ImportError: If it is not.
        """
        return self.table.to_pandas()

    def to_polars(self) -> Any:
        """Return the rows as a polars ``DataFrame``; polars must be installed.

        Raises:
            ImportError: If it is not.
        """
        return importlib.import_module("polars").from_arrow(self.table)

    def to_duckdb(self) -> Any:
        """Return the rows as a relation of DuckDB in this process; duckdb must be installed.

        Raises:
            ImportError: If it is not.
        """
        return importlib.import_module("duckdb").from_arrow(self.table)
