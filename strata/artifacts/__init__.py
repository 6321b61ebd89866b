"""Versioned results: their identity, their metadata and their bytes."""

from strata.artifacts.blobs.store import (
    BLOB_GONE,
    BLOB_UNREADABLE,
    BlobFacts,
    BlobReader,
    BlobStore,
    BlobWriter,
    LocalBlobStore,
)
from strata.artifacts.metadata.contract import ORDERS, SORTS, STORE_DOWN, MetadataStore
from strata.artifacts.metadata.migrate import NewerDatabaseError
from strata.artifacts.metadata.records import (
    Act,
    ArtifactRecord,
    ArtifactState,
    AuditRecord,
    BuildRecord,
    NameRecord,
    Page,
    Stats,
)
from strata.artifacts.metadata.sql_store import SqlMetadataStore
from strata.artifacts.provenance import canonical_json, provenance_hash, query_hash, tenant_prefix

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
