"""Python client: results as Arrow tables and streams, for threads and for trio or asyncio.

>>> from strata.client import StrataClient
>>> with StrataClient("http://127.0.0.1:8765") as strata:  # doctest: +SKIP
...     table = strata.fetch("demo:nyc.flights", columns=["origin", "dest"], filters=[("month", "=", 2)])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strata.client.answers import (
        Artifact,
        ArtifactPage,
        Build,
        CacheStats,
        Cancelled,
        ChangedInput,
        Check,
        Deleted,
        Dependents,
        Edge,
        Explanation,
        Lineage,
        Materialized,
        Me,
        NameStatus,
        Node,
        Receipt,
    )
    from strata.client.asynchronous import AsyncBatchStream, AsyncStrataClient
    from strata.client.errors import (
        BadAnswerError,
        BuildFailedError,
        ConnectionFailedError,
        StrataError,
        TruncatedStreamError,
        WaitTimeoutError,
    )
    from strata.client.filters import Filter
    from strata.client.methods.notebook_answers import (
        CellEnd,
        ImportedNotebook,
        Notebook,
        NotebookCell,
        NotebookResult,
        NotebookRun,
        NotebookSession,
        NotebookSummary,
        NotebookValue,
        SessionCell,
    )
    from strata.client.results import QueryResult
    from strata.client.retry import RetryPolicy
    from strata.client.sync import BatchStream, StrataClient
    from strata.client.tables import Catalog, Column, Description, NamedResult, Ref, Snapshot, Table, Why

__all__ = [
    "Artifact",
    "ArtifactPage",
    "AsyncBatchStream",
    "AsyncStrataClient",
    "BadAnswerError",
    "BatchStream",
    "Build",
    "BuildFailedError",
    "CacheStats",
    "Cancelled",
    "Catalog",
    "CellEnd",
    "ChangedInput",
    "Check",
    "Column",
    "ConnectionFailedError",
    "Deleted",
    "Dependents",
    "Description",
    "Edge",
    "Explanation",
    "Filter",
    "ImportedNotebook",
    "Lineage",
    "Materialized",
    "Me",
    "NameStatus",
    "NamedResult",
    "Node",
    "Notebook",
    "NotebookCell",
    "NotebookResult",
    "NotebookRun",
    "NotebookSession",
    "NotebookSummary",
    "NotebookValue",
    "QueryResult",
    "Receipt",
    "Ref",
    "RetryPolicy",
    "SessionCell",
    "Snapshot",
    "StrataClient",
    "StrataError",
    "Table",
    "TruncatedStreamError",
    "WaitTimeoutError",
    "Why",
]

_MODULES = (
    "errors",
    "filters",
    "retry",
    "tables",
    "answers",
    "methods.notebook_answers",
    "results",
    "sync",
    "asynchronous",
)


def __getattr__(name: str) -> Any:
    """Import a name when it is wanted: commands of ``strata`` begin without pyarrow, which takes a while."""
    if name in __all__:
        for module in _MODULES:
            found = getattr(import_module(f"strata.client.{module}"), name, None)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
