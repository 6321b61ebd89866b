# ruff: noqa: FBT003  # the first argument of a setting is its default
"""Settings of the object stores that keep results, and what contradicts itself in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from strata.config.fields import setting
from strata.config.problems import Problem

BUCKETS = {"s3": "artifact_s3_bucket", "gcs": "artifact_gcs_bucket", "azure": "artifact_azure_container"}
"""Required setting of each remote blob backend: its bucket or container."""


@attrs.frozen(kw_only=True, slots=False)
class ObjectStoreSettings:
    """How object stores are reached."""

    s3_region: str | None = setting(None, "Region of the S3 bucket (none: from the AWS variables).")
    s3_endpoint_url: str | None = setting(None, "URL of an S3-compatible store (none: AWS).")
    s3_access_key: str | None = setting(None, "S3 access key (none: from the AWS variables).", secret=True)
    s3_secret_key: str | None = setting(None, "S3 secret key (none: from the AWS variables).", secret=True)
    s3_session_token: str | None = setting(
        None, "Session token of temporary S3 keys (none: from the AWS variables).", secret=True
    )
    s3_anonymous: bool = setting(False, "Send unsigned requests to S3, without credentials.")
    s3_connect_timeout_seconds: float = setting(
        10.0, "Maximum time to connect to the object store, S3 or another.", unit="seconds", least=0.001
    )
    s3_request_timeout_seconds: float = setting(
        30.0,
        "Maximum time of one request to the object store, S3 or another; also the time in which a failed one "
        "is tried again.",
        unit="seconds",
        least=0.001,
    )
    gcs_service_account_file: str | None = setting(
        None,
        "JSON key file of a Google service account (none: from the GOOGLE variables, the application default "
        "credentials or the machine's role).",
    )
    gcs_endpoint_url: str | None = setting(
        None,
        "URL of a server with the XML API of Google Cloud Storage (none: Google's).",
    )
    azure_account: str | None = setting(None, "Azure storage account (none: AZURE_STORAGE_ACCOUNT_NAME).")
    azure_account_key: str | None = setting(
        None,
        "Key of the Azure storage account (none: from the AZURE variables or the machine's role).",
        secret=True,
    )
    azure_sas_token: str | None = setting(
        None, "Shared access signature for the Azure container, instead of the account's key.", secret=True
    )
    azure_client_id: str | None = setting(
        None, "Client id of an Entra application, or of a user-assigned managed identity."
    )
    azure_client_secret: str | None = setting(
        None, "Client secret of the Entra application `azure_client_id`.", secret=True
    )
    azure_directory_id: str | None = setting(
        None, "Entra directory (tenant) of the application `azure_client_id`."
    )
    azure_endpoint_url: str | None = setting(
        None, "URL of the Azure blob service, account included (none: the account's own in Azure)."
    )


def object_store_problems(settings: Any) -> Iterator[Problem]:
    """Yield the problems of the settings of the chosen object store.

    Args:
        settings: The settings, as of :class:`~strata.config.Settings`.
    """
    backend = settings.artifact_blob_backend
    bucket = BUCKETS.get(backend)
    if bucket is not None and not getattr(settings, bucket):
        yield Problem(bucket, f"artifact_blob_backend = {backend} requires {bucket}; set it.")
    if settings.artifact_presigned_seconds:
        yield from _signing_problems(settings)
    for name in ("s3_endpoint_url", "gcs_endpoint_url", "azure_endpoint_url"):
        url = getattr(settings, name)
        if url is not None and not _is_http(url):  # the client library ends with a panic on some
            yield Problem(name, "it is not the URL of a server; write https://host or http://host:port.")
    yield from {"s3": _s3_problems, "gcs": _gcs_problems, "azure": _azure_problems}.get(backend, _none)(
        settings
    )


def _signing_problems(settings: Any) -> Iterator[Problem]:
    name = "artifact_presigned_seconds"
    if settings.artifact_blob_backend == "local":
        yield Problem(name, "local results have no address to sign; set artifact_blob_backend.")
    if settings.accel_redirect is None:
        yield Problem(
            name, "no proxy is told to fetch results; set accel_redirect to the location that fetches them."
        )
    for other in ("s3_anonymous", "azure_sas_token"):
        if getattr(settings, other):
            yield Problem(other, f"no address can be signed with it; remove it, or {name}.")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    return plain and parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and port != 0


def _none(_settings: Any) -> Iterator[Problem]:
    return iter(())


def _s3_problems(settings: Any) -> Iterator[Problem]:
    access, secret = settings.s3_access_key, settings.s3_secret_key
    if access and not secret:
        yield Problem("s3_secret_key", "s3_access_key is set without its secret; set s3_secret_key, too.")
    if secret and not access:
        yield Problem("s3_access_key", "s3_secret_key is set without its key; set s3_access_key, too.")
    if settings.s3_session_token and not access:
        yield Problem(
            "s3_session_token", "it belongs to temporary keys; set s3_access_key and s3_secret_key, too."
        )
    if settings.s3_anonymous and (access or secret):
        yield Problem("s3_anonymous", "keys are set that unsigned requests do not use; remove one of them.")


def _gcs_problems(settings: Any) -> Iterator[Problem]:
    file = settings.gcs_service_account_file
    if file is None:
        return
    try:
        with Path(file).expanduser().open("rb") as opened:
            opened.read(1)
    except (OSError, ValueError, RuntimeError):
        yield Problem("gcs_service_account_file", f"{file!r} cannot be read; name the JSON key file.")


def _azure_problems(settings: Any) -> Iterator[Problem]:
    ways = [
        name
        for name in ("azure_account_key", "azure_sas_token", "azure_client_secret")
        if getattr(settings, name)
    ]
    for other in ways[1:]:
        yield Problem(other, f"{ways[0]} is set, too, and one of them suffices; remove the other.")
    if settings.azure_client_secret:
        for name in ("azure_client_id", "azure_directory_id"):
            if not getattr(settings, name):
                yield Problem(name, f"azure_client_secret is set without it; set {name}, too.")
