"""Python client: results as Arrow tables and streams, for threads and for trio or asyncio.

>>> from strata.client import StrataClient
>>> with StrataClient("http://127.0.0.1:8765") as strata:  # doctest: +SKIP
...     table = strata.fetch("demo:nyc.flights", columns=["origin", "dest"], filters=[("month", "=", 2)])
"""

from strata.client.answers import (
    Artifact,
    ArtifactPage,
    Build,
    CacheStats,
    ChangedInput,
    Check,
    Explanation,
    Materialized,
    Me,
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
from strata.client.retry import RetryPolicy
from strata.client.sync import BatchStream, StrataClient

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
    "ChangedInput",
    "Check",
    "ConnectionFailedError",
    "Explanation",
    "Filter",
    "Materialized",
    "Me",
    "RetryPolicy",
    "StrataClient",
    "StrataError",
    "TruncatedStreamError",
    "WaitTimeoutError",
]
