"""Write a result to a file, batch by batch; the file appears when all rows are in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from strata.client import BatchStream

_WRITERS: dict[str, Callable[[Any, pa.Schema], Any]] = {
    ".parquet": pyarrow.parquet.ParquetWriter,
    ".arrow": pa.ipc.new_file,
    ".csv": pyarrow.csv.CSVWriter,
}


def write_file(path: Path, opened: Callable[[], BatchStream]) -> int:
    """Write a result to ``path``, in the format of its ending; returns the number of rows.

    Args:
        path: The file; one that exists is replaced.
        opened: Opens the result, after the ending is known to be right.

    Raises:
        ClickException: For another ending, or a column that the format cannot hold.
        StrataError: If the result is refused or cut off; then there is no file.
        OSError: If the file cannot be written.
    """
    writer_of = _WRITERS.get(path.suffix.lower())
    if writer_of is None:
        raise click.ClickException(f"The file must end in one of {', '.join(_WRITERS)}.")
    rows = 0
    with opened() as stream:
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with writer_of(file, stream.schema) as writer:
                    for batch in stream:
                        writer.write_batch(batch)
                        rows += batch.num_rows
                os.fchmod(file.fileno(), 0o666 & ~_umask())
            Path(partial).replace(path)
        except BaseException as error:  # raised again: no half file stays, whatever ended the download
            Path(partial).unlink(missing_ok=True)
            if isinstance(error, pa.ArrowException) and not isinstance(error, OSError):
                raise click.ClickException(f"{path.suffix} cannot hold this result: {error}") from None
            raise
    return rows


def _umask() -> int:
    """Return the process's mask of file modes: a temporary file has none of its own."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
