"""Versioned results: their identity, what is known of them, and their bytes."""

from strata.artifacts.blobs import (
    BLOB_GONE,
    BLOB_UNREADABLE,
    BlobFacts,
    BlobReader,
    BlobStore,
    BlobWriter,
    LocalBlobStore,
)
from strata.artifacts.memory_blobs import MemoryBlobStore
from strata.artifacts.memory_metadata import MemoryMetadataStore
from strata.artifacts.metadata import ORDERS, SORTS, STORE_DOWN, MetadataStore
from strata.artifacts.migrate import NewerDatabaseError
from strata.artifacts.provenance import canonical_json, provenance_hash, query_hash, tenant_prefix
from strata.artifacts.records import (
    Act,
    ArtifactRecord,
    ArtifactState,
    AuditRecord,
    BuildRecord,
    NameRecord,
    Page,
    Stats,
)
from strata.artifacts.sql_metadata import SqlMetadataStore

__all__ = [
    "BLOB_GONE",
    "BLOB_UNREADABLE",
    "ORDERS",
    "SORTS",
    "STORE_DOWN",
    "Act",
    "ArtifactRecord",
    "ArtifactState",
    "AuditRecord",
    "BlobFacts",
    "BlobReader",
    "BlobStore",
    "BlobWriter",
    "BuildRecord",
    "LocalBlobStore",
    "MemoryBlobStore",
    "MemoryMetadataStore",
    "MetadataStore",
    "NameRecord",
    "NewerDatabaseError",
    "Page",
    "SqlMetadataStore",
    "Stats",
    "canonical_json",
    "provenance_hash",
    "query_hash",
    "tenant_prefix",
]
