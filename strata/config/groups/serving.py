# ruff: noqa: FBT003, RUF009  # the first argument of a setting is its default
"""Settings of connections, requests and identities."""

from __future__ import annotations

import attrs

from strata.acl import Policy
from strata.auth import PRINCIPAL_HEADER, SCOPES_HEADER
from strata.config.fields import setting

MIN_TOKEN_CHARACTERS = 16
"""Minimum characters of a proxy token; a shorter one is a configuration problem."""


@attrs.frozen(kw_only=True, slots=False)
class ServingSettings:
    """Where the server listens, and its bounds on connections and requests."""

    deployment_mode: str = setting(
        "personal",
        "`personal` serves one user on loopback, `service` many users behind an authenticating proxy.",
        choices=("personal", "service"),
    )
    host: str = setting(
        "127.0.0.1", "IP address or host name to listen on; `::` is all addresses, IPv4 included."
    )
    port: int = setting(8765, "TCP port to listen on (0: any free port).", least=0, most=65535)
    unix_socket: str | None = setting(
        None,
        "Path of a Unix socket to listen on instead of `host` and `port`; the socket's group may connect.",
    )
    tls_certificate: str | None = setting(
        None, "PEM file with the server's certificate chain: turns TLS on. SIGHUP reads the file again."
    )
    tls_key: str | None = setting(
        None,
        "PEM file with the private key of `tls_certificate` (none: the key is in the certificate's file).",
    )
    tls_client_ca: str | None = setting(
        None,
        "PEM file with the certificate authorities of clients: every client, such as the proxy, must "
        "present a certificate that one of them issued.",
    )
    max_connections: int = setting(
        4096,
        "Maximum open connections. At the maximum a new connection closes an idle one; if none is idle, the "
        "new one is closed.",
        least=1,
    )
    max_connections_per_peer: int = setting(
        0, "Maximum open connections per peer address (0: unlimited, as needed behind a proxy).", least=0
    )
    keep_alive_seconds: float = setting(
        75.0,
        "Time after which an idle connection is closed. Must exceed the proxy's own keep-alive time (nginx: "
        "60 s).",
        unit="seconds",
        least=1,
    )
    request_head_seconds: float = setting(
        10.0,
        "Maximum time for a request's head to arrive; then the connection is closed.",
        unit="seconds",
        least=0.1,
    )
    request_body_seconds: float = setting(
        60.0,
        "Maximum time for a request's body to arrive, plus 1 s per 64 KiB received; then the answer is 408.",
        unit="seconds",
        least=0.1,
        live=True,
    )
    client_stall_seconds: float = setting(
        60.0,
        "Maximum time during which a client accepts no byte of its response; then the connection is closed.",
        unit="seconds",
        least=0.1,
    )
    allow_remote_clients_in_personal: bool = setting(
        False,
        "Allow personal mode, which has no authentication, to listen on an address other than loopback.",
    )
    personal_mode_user_header: str | None = setting(
        None, "Request header with the user's name in personal mode (none: every user is `local`).", live=True
    )
    allowed_hosts: str | None = setting(
        None,
        "Host names under which users reach the server, separated by commas. Personal mode also answers to "
        "loopback names; service mode answers to every name if none is given. A page under another name "
        "cannot send requests that change anything.",
        live=True,
    )
    max_request_bytes: int = setting(
        1048576,
        "Maximum size of a request's body; a larger one is answered 413.",
        unit="bytes",
        least=1024,
        live=True,
    )
    shutdown_notice_seconds: float = setting(
        0.0,
        "Time after SIGTERM during which requests are still accepted and only `/health/ready` answers 503 "
        "(0: none).",
        unit="seconds",
        least=0,
    )
    shutdown_grace_seconds: float = setting(
        30.0,
        "Maximum time for requests in progress to finish when the server stops; then their connections are "
        "closed.",
        unit="seconds",
        least=0,
    )


@attrs.frozen(kw_only=True, slots=False)
class IdentitySettings:
    """Who a request is from, and what it may do."""

    auth_mode: str = setting(
        "none",
        "Where a request's identity comes from: nowhere (`none`), or from headers of a proxy that sends "
        "`proxy_token` (`trusted_proxy`).",
        choices=("none", "trusted_proxy"),
    )
    proxy_token: str | None = setting(
        None,
        f"Secret that the proxy sends as X-Strata-Proxy-Token; at least {MIN_TOKEN_CHARACTERS} characters.",
        secret=True,
        live=True,
    )
    proxy_token_previous: str | None = setting(
        None,
        f"Second accepted proxy token, during a rotation; at least {MIN_TOKEN_CHARACTERS} characters.",
        secret=True,
        live=True,
    )
    auth_failures_per_second: float = setting(
        5.0,
        "Failed authentications per second and peer address that are answered 401; the rest are answered "
        "429. Requests that authenticate are never limited by this.",
        least=0.001,
        live=True,
    )
    auth_failure_burst: int = setting(
        50,
        "Failed authentications of one peer address that are answered 401 before `auth_failures_per_second` "
        "limits them.",
        least=1,
        live=True,
    )
    principal_header: str = setting(
        PRINCIPAL_HEADER, "Request header with the principal, the user's id.", live=True
    )
    scopes_header: str = setting(
        SCOPES_HEADER, "Request header with the user's scopes, separated by spaces.", live=True
    )
    hide_forbidden_as_not_found: bool = setting(
        True,
        "Answer 404 in place of 403 to what the access rules deny, identical to the answer for what does "
        "not exist.",
        live=True,
    )
    acl_config: Policy | None = setting(
        None, "Access rules as a table; see the ACL reference.", toml_only=True, live=True
    )
    acl_file: str | None = setting(
        None,
        "TOML file with the access rules, in place of `acl_config`; read again when it changes. See the ACL "
        "reference.",
        live=True,
    )
    acl_file_watch_seconds: float = setting(
        2.0,
        "Interval at which `acl_file` is checked for changes (0: never). A change takes effect when two "
        "consecutive checks find the same file.",
        unit="seconds",
        least=0,
        live=True,
    )
