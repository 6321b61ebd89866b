"""Open the object store that the settings name, with a bound on every wait.

S3 is tested against moto, Azure against Azurite, Google Cloud Storage against a small server that speaks its
XML API. All three are **unverified against the real services**.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRIES = 3
"""Retries of a request to the object store; then it counts as failed."""


def open_object_store(backend: str, settings: Any, *, retries: int = RETRIES) -> tuple[ObjectStore, str]:
    """Return the object store and its key prefix; connects to nothing yet.

    What the settings leave out is taken from the provider's own environment variables, and credentials
    finally from the machine's role.

    Args:
        backend: ``s3``, ``gcs`` or ``azure``.
        settings: The settings, as of :class:`~strata.config.Settings`.
        retries: Retries of a request.

    Raises:
        ImportError: If the extra ``objectstore`` is not installed.
        ValueError: For another backend.
        obstore.exceptions.BaseError: If the settings and variables describe no store.
    """
    from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415  # an extra

    if backend not in ("s3", "gcs", "azure"):
        raise ValueError(f"unknown artifact_blob_backend {backend!r}: use local, s3, gcs or azure")
    timeout = timedelta(seconds=settings.s3_request_timeout_seconds)
    client: Any = {
        "connect_timeout": timedelta(seconds=settings.s3_connect_timeout_seconds),
        "timeout": timeout,
    }
    endpoint: str | None = getattr(settings, f"{backend}_endpoint_url")
    if endpoint is not None and endpoint.lower().startswith("http://"):
        client["allow_http"] = True  # the setting's URL says http
    # Without these bounds a dead peer blocks a worker thread for minutes.
    retry: Any = {"max_retries": retries, "retry_timeout": timeout}
    options: Any = {name: value for name, value in _options(backend, settings).items() if value}
    if backend == "gcs":
        return (
            GCSStore(settings.artifact_gcs_bucket, client_options=client, retry_config=retry, **options),
            settings.artifact_gcs_prefix,
        )
    if backend == "azure":
        return (
            AzureStore(
                settings.artifact_azure_container, client_options=client, retry_config=retry, **options
            ),
            settings.artifact_azure_prefix,
        )
    return (
        S3Store(settings.artifact_s3_bucket, client_options=client, retry_config=retry, **options),
        settings.artifact_s3_prefix,
    )


def _options(backend: str, settings: Any) -> dict[str, str | bool | None]:
    """Return a backend's options under the names of the client library."""
    if backend == "gcs":
        file = settings.gcs_service_account_file
        return {
            "service_account": file and str(Path(file).expanduser()),
            "base_url": settings.gcs_endpoint_url,
        }
    if backend == "azure":
        return {
            "account_name": settings.azure_account,
            "account_key": settings.azure_account_key,
            "sas_key": settings.azure_sas_token,
            "client_id": settings.azure_client_id,
            "client_secret": settings.azure_client_secret,
            "tenant_id": settings.azure_directory_id,
            "endpoint": settings.azure_endpoint_url,
        }
    return {
        "region": settings.s3_region,
        "endpoint": settings.s3_endpoint_url,
        "access_key_id": settings.s3_access_key,
        "secret_access_key": settings.s3_secret_key,
        "session_token": settings.s3_session_token,
        "skip_signature": settings.s3_anonymous,
    }
