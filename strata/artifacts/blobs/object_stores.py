"""Open the object store that the settings name, with a bound on every wait.

S3 is tested against moto. Google Cloud Storage and Azure use the same code and are **unverified against the
real services**.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRIES = 3
"""Retries of a request to the object store; then it counts as failed."""


def open_object_store(backend: str, settings: Any) -> tuple[ObjectStore, str]:
    """Return the object store and its key prefix; connects to nothing yet.

    Args:
        backend: ``s3``, ``gcs`` or ``azure``.
        settings: The settings, as of :class:`~strata.config.Settings`.

    Raises:
        ImportError: If the extra ``objectstore`` is not installed.
        ValueError: For another backend.
    """
    from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415  # an extra

    timeout = timedelta(seconds=settings.s3_request_timeout_seconds)
    client: Any = {
        "connect_timeout": timedelta(seconds=settings.s3_connect_timeout_seconds),
        "timeout": timeout,
    }
    # Without these bounds a dead peer blocks a worker thread for minutes.
    retry: Any = {"max_retries": RETRIES, "retry_timeout": timeout}
    store: ObjectStore
    if backend == "gcs":
        store = GCSStore(settings.artifact_gcs_bucket, client_options=client, retry_config=retry)
        return store, settings.artifact_gcs_prefix
    if backend == "azure":
        store = AzureStore(settings.artifact_azure_container, client_options=client, retry_config=retry)
        return store, settings.artifact_azure_prefix
    if backend != "s3":
        raise ValueError(f"unknown artifact_blob_backend {backend!r}: use local, s3, gcs or azure")
    endpoint = settings.s3_endpoint_url
    if endpoint is not None and endpoint.lower().startswith("http://"):
        client["allow_http"] = True  # the setting's URL says http
    given = {
        "region": settings.s3_region,
        "endpoint": endpoint,
        "access_key_id": settings.s3_access_key,
        "secret_access_key": settings.s3_secret_key,
        "skip_signature": settings.s3_anonymous or None,
    }
    options: Any = {key: value for key, value in given.items() if value is not None}
    store = S3Store(settings.artifact_s3_bucket, client_options=client, retry_config=retry, **options)
    return store, settings.artifact_s3_prefix
