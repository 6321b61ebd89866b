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
from strata.artifacts.database.contract import STORE_DOWN
from strata.artifacts.database.migrate import NewerDatabaseError
from strata.artifacts.metadata.contract import ORDERS, SORTS, MetadataStore
from strata.artifacts.metadata.records import (
    Act,
    ArtifactRecord,
    ArtifactState,
    AuditRecord,
    BuildRecord,
    Cursor,
    NamedVersion,
    NameOrder,
    NameRecord,
    Page,
    Stats,
    VersionSummary,
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
    "Cursor",
    "LocalBlobStore",
    "MetadataStore",
    "NameOrder",
    "NameRecord",
    "NamedVersion",
    "NewerDatabaseError",
    "Page",
    "SqlMetadataStore",
    "Stats",
    "VersionSummary",
    "canonical_json",
    "provenance_hash",
    "query_hash",
    "tenant_prefix",
]
