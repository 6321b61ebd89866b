# ruff: noqa: FBT003, RUF009  # the first argument of a setting is its default
"""Settings of warehouses, caches and results."""

from __future__ import annotations

import attrs

from strata.config.fields import CatalogCallers, setting


@attrs.frozen(kw_only=True, slots=False)
class DataSettings:
    """Warehouses, catalogs and caches."""

    warehouses: dict[str, str] = setting(
        dict, "Directories of Iceberg warehouses by alias. As a variable: `alias=/path,other=/path`."
    )
    catalogs: dict[str, dict[str, str]] = setting(
        dict, "pyiceberg catalogs by alias, each a table of catalog properties.", toml_only=True
    )
    catalog_callers: dict[str, CatalogCallers] = setting(
        dict,
        "REST catalogs that are queried under the identity of each caller, by alias, each a table that says "
        "how it is passed on "
        "([Ask a catalog as the caller](../how-to/read-from-a-catalog.md#ask-a-catalog-as-the-caller)).",
        toml_only=True,
    )

    cache_dir: str = setting(
        "~/.strata/cache", "Directory of all tenants' caches, one subdirectory per tenant."
    )
    max_cache_size_bytes: int = setting(
        10737418240,
        "Maximum bytes of cached segments of all tenants together, divided by need; as a limit of one "
        "tenant, that tenant's maximum.",
        unit="bytes",
        least=0,
        tenant=True,
    )
    cache_guaranteed_bytes: int = setting(
        67108864,
        "Bytes of the cache that an active tenant keeps when other tenants need space (0: no guarantee).",
        unit="bytes",
        least=0,
    )
    cache_granularity: str = setting(
        "row_group_projection",
        "What one cached segment holds: the projected columns of one row group.",
        choices=("row_group_projection",),
    )
    metadata_db: str | None = setting(
        None,
        "SQLite file with the metadata of artifacts (none: `metadata.db` in `artifact_dir`). Not "
        "together with `artifact_metadata_dsn`.",
    )
    artifact_metadata_dsn: str | None = setting(
        None,
        "PostgreSQL database with the metadata of artifacts, instead of a SQLite file: "
        "`postgresql://user:password@host:5432/database`, with options of libpq such as "
        "`?sslmode=verify-full`. Needs the extra `postgres`.",
        secret=True,
    )
    artifact_metadata_connections: int = setting(
        16,
        "Maximum connections of this server to the database of `artifact_metadata_dsn`, besides three for "
        "its health, its lease and its rates.",
        least=2,
        most=1000,
    )
    artifact_lease_seconds: float = setting(
        10.0,
        "Time after which a server that shares the database of `artifact_metadata_dsn` counts as dead, and "
        "another one takes over its builds. Equal for all servers.",
        unit="seconds",
        least=1,
        most=3600,
    )


@attrs.frozen(kw_only=True, slots=False)
class ResultSettings:
    """Where results are stored."""

    artifact_dir: str | None = setting(
        None,
        "Directory of results and their metadata, used by one server only; servers with one PostgreSQL "
        "database and `local` results share it. Required in service mode, except with a remote blob backend "
        "and `artifact_metadata_dsn` together, where nothing of value is local (none: a temporary directory "
        "there, else `~/.strata/artifacts` in personal mode).",
    )
    artifact_blob_backend: str = setting(
        "local",
        "Where finished results are stored: in `artifact_dir` (`local`) or in an object store.",
        choices=("local", "s3", "gcs", "azure"),
    )
    artifact_s3_bucket: str | None = setting(None, "S3 bucket of finished results.")
    artifact_s3_prefix: str = setting("artifacts", "Prefix of finished results in the S3 bucket.")
    artifact_gcs_bucket: str | None = setting(None, "Google Cloud Storage bucket of finished results.")
    artifact_gcs_prefix: str = setting(
        "artifacts", "Prefix of finished results in the Google Cloud Storage bucket."
    )
    artifact_azure_container: str | None = setting(None, "Azure container of finished results.")
    artifact_azure_prefix: str = setting("artifacts", "Prefix of finished results in the Azure container.")
    accel_redirect: str | None = setting(
        None,
        "Path of an internal location of nginx that stands for the directory `blobs` in `artifact_dir`, such "
        "as `/_strata/results`: nginx then sends finished local results (`X-Accel-Redirect`), after the "
        "server has authorized the request. With `artifact_presigned_seconds` it is the location that "
        "fetches results from the object store. Only behind an nginx that has this location.",
    )
    artifact_presigned_seconds: int = setting(
        0,
        "Time for which an address is valid by which nginx fetches a finished result from an object store "
        "(`X-Accel-Redirect` and `X-Strata-Object`), after the server has authorized the request; 0: the "
        "server fetches and sends all results. Needs `accel_redirect` and a remote `artifact_blob_backend`.",
        unit="seconds",
        least=0,
        most=600,
    )
    artifact_copies_bytes: int = setting(
        10737418240,
        "Maximum bytes of local copies of results stored in an object store. The least recently used are "
        "removed; the newest stays, however large.",
        unit="bytes",
        least=0,
    )
    service_writes_enabled: bool = setting(
        False,
        "Permit direct writes in service mode, such as the removal of a result, to holders of the scope "
        "`artifacts:write`; when off, they are answered 403 (`writes_disabled`).",
        live=True,
    )
