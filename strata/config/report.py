"""Describe settings for ``strata check`` and ``strata config``: as values, and as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from strata.acl import Policy
from strata.config.settings import BUCKETS, Settings
from strata.config.sources import Loaded

REDACTED = "(redacted)"

_HARMLESS = frozenset({"type", "warehouse", "uri", "s3.region", "s3.endpoint", "rest.signing-name"})
"""Catalog properties whose values are shown; any other property may hold a secret and is redacted."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


def shown(name: str, value: Any) -> Any:
    """Return a setting's value with secrets redacted, also those inside catalogs."""
    if value is None:
        return None
    if attrs.fields_dict(Settings)[name].metadata["secret"]:
        return REDACTED
    if isinstance(value, Policy):
        return {
            "default": value.default,
            "deny": [_rule(rule) for rule in value.deny],
            "allow": [_rule(rule) for rule in value.allow],
        }
    if name == "tenants":
        return {
            tenant: dict(section.values) | ({"maximum": dict(section.maximum)} if section.maximum else {})
            for tenant, section in value.items()
        }
    if name == "transforms":
        return attrs.asdict(value)
    if name in ("notebook_workers", "notebook_environments"):
        return [attrs.asdict(one) for one in value]
    if name == "catalog_callers":
        return {alias: _caller(attrs.asdict(one)) for alias, one in value.items()}
    if name == "catalogs":
        return {alias: _catalog(properties) for alias, properties in value.items()}
    return value


def _rule(rule: Any) -> dict[str, str]:
    keys = ("principal", "resource", "tenant", "scope", "action")
    return {key: getattr(rule, key) for key in keys if getattr(rule, key) is not None}


def _catalog(properties: Mapping[str, str]) -> dict[str, str]:
    return {key: _location(value) if key in _HARMLESS else REDACTED for key, value in properties.items()}


def _caller(values: Mapping[str, str | None]) -> dict[str, str]:
    given = {key: text for key, text in values.items() if text is not None}
    return {key: _location(text) if key == "token_url" else text for key, text in given.items()}


def _location(text: str) -> str:
    """Return a URI with its user part and query redacted: both may hold secrets."""
    base, question, _ = text.partition("?")
    return _CREDENTIALS.sub(f"{REDACTED}@", base) + (f"?{REDACTED}" if question else "")


def effective(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Return every setting's ``value`` (secrets redacted) and ``source``, by name."""
    return {
        name: {"value": shown(name, getattr(loaded.settings, name)), "source": source.name}
        for name, source in loaded.sources.items()
    }


def summary(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return a summary of a server with these settings: facts by name, by subject."""
    return {"mode": _mode(settings), "identity": _identity(settings), "storage": _storage(settings)} | {
        "limits": {
            "interactive_slots": settings.interactive_slots,
            "bulk_slots": settings.bulk_slots,
            "max_concurrent_scans": settings.max_concurrent_scans,
            "max_response_bytes": settings.max_response_bytes,
            "max_cache_size_bytes": settings.max_cache_size_bytes,
            "scan_timeout_seconds": settings.scan_timeout_seconds,
            "max_tenants": settings.max_tenants,
            "max_connections": settings.max_connections,
            "tenants_with_limits": sorted(settings.tenants),
        }
    }


def _mode(settings: Settings) -> dict[str, Any]:
    service = settings.deployment_mode == "service"
    return {
        "deployment_mode": settings.deployment_mode,
        "listens": settings.unix_socket or f"{settings.host}:{settings.port}",
        "tls": "off"
        if settings.tls_certificate is None
        else "on, clients show certificates"
        if settings.tls_client_ca
        else "on",
        "direct_writes": "refused" if service else "open",
    }


def _identity(settings: Settings) -> dict[str, Any]:
    if settings.auth_mode == "none":
        user = settings.personal_mode_user_header
        return {"authentication": "none", "principal": f"header {user}, else local" if user else "local"}
    tenant = (
        f"{settings.tenant_header} or X-Strata-Tenant"
        if settings.multi_tenant_enabled
        else "one for all requests"
    )
    policy = settings.acl_config
    rules = (
        "none: every request is permitted"
        if policy is None
        else f"{len(policy.deny)} deny, {len(policy.allow)} allow"
    )
    return {
        "authentication": "X-Strata-Proxy-Token",
        "accepted_tokens": 1 + (settings.proxy_token_previous is not None),
        "principal": settings.principal_header,
        "scopes": settings.scopes_header,
        "tenant": tenant,
        "tenant_required": settings.require_tenant_header,
        "access_rules": rules if policy is None else f"{rules}, default {policy.default}",
    }


def _storage(settings: Settings) -> dict[str, Any]:
    bucket = BUCKETS.get(settings.artifact_blob_backend)
    return {
        "artifacts": "no local directory"
        if settings.needs_no_directory
        else settings.artifact_dir
        or (settings.deployment_mode == "personal" and str(settings.artifact_root)),
        "blob_backend": settings.artifact_blob_backend,
        "bucket": getattr(settings, bucket) if bucket else None,
        "cache": settings.cache_dir,
        "warehouses": dict(settings.warehouses),
        "catalogs": sorted(settings.catalogs),
    }


def as_text(subjects: Mapping[str, Mapping[str, Any]]) -> str:
    """Return subjects and their facts as indented lines."""
    lines = []
    for subject, facts in subjects.items():
        lines.append(subject)
        lines += [f"  {name:<24} {_plain(value)}" for name, value in facts.items()]
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
