"""Versioned results: their identity, what is known of them, and their bytes."""

from strata.artifacts.blobs import BLOB_GONE, BlobFacts, BlobReader, BlobStore, BlobWriter, LocalBlobStore
from strata.artifacts.metadata import MetadataStore
from strata.artifacts.provenance import canonical_json, provenance_hash, query_hash, tenant_prefix
from strata.artifacts.records import ArtifactRecord, ArtifactState, BuildRecord, NameRecord, Page, Stats
from strata.artifacts.sql_metadata import SqlMetadataStore

__all__ = [
    "BLOB_GONE",
    "ArtifactRecord",
    "ArtifactState",
    "BlobFacts",
    "BlobReader",
    "BlobStore",
    "BlobWriter",
    "BuildRecord",
    "LocalBlobStore",
    "MetadataStore",
    "NameRecord",
    "Page",
    "SqlMetadataStore",
    "Stats",
    "canonical_json",
    "provenance_hash",
    "query_hash",
    "tenant_prefix",
]
