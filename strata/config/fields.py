# ruff: noqa: FBT003  # the first argument of a setting is its default
"""Declare settings with their metadata, and the fields of one tenant's section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs


def setting(
    default: Any,
    help: str,  # noqa: A002  # the word of click and argparse
    *,
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
    toml_only: bool = False,
    live: bool = False,
    tenant: bool = False,
    zero_is_free: bool = False,
) -> Any:
    """Return an attrs field with the metadata of a setting.

    Args:
        default: Default value, or a type that makes one.
        help: Meaning, for the reference and ``--help``; understood without any other setting's text.
        unit: Unit of the value.
        least: Minimum.
        most: Maximum.
        choices: All permitted values.
        secret: The value is never shown, and can be given as a file.
        toml_only: The setting cannot be given as an environment variable.
        live: SIGHUP applies a changed value.
        tenant: The setting is a limit of each tenant, and can be set for a single one.
        zero_is_free: For a limit: 0 means unlimited.
    """
    metadata = {
        "help": help,
        "unit": unit,
        "least": least,
        "most": most,
        "choices": choices,
        "secret": secret,
        "toml_only": toml_only,
        "live": live,
        "tenant": tenant,
        "zero_is_free": zero_is_free,
    }
    factory = default if isinstance(default, type) else None
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata, repr=not secret)
    return attrs.field(default=default, metadata=metadata, repr=not secret)


EMBEDDED = "embedded://local"
"""Address of the executor that runs in processes of this machine."""

SIGNED = "signed"
"""The transport by which executors fetch and bring by signed URLs."""

REFERENCE = "reference"
"""How tables are handed over that the executor reads itself."""

limit = partial(setting, live=True, tenant=True)
"""Declare a limit of each tenant: a setting that ``[tool.strata.tenants.<id>]`` can override for one."""


@attrs.frozen
class TenantSection:
    """Limits of one tenant, by setting.

    Attributes:
        values: Values that differ for this tenant; also ``weight`` and ``enabled``.
        maximum: Upper bounds for changes through the admin API, by limit.
    """

    values: Mapping[str, Any] = attrs.field(factory=dict)
    maximum: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen
class RegisteredTransform:
    """A transform that clients may run: one table of ``[[tool.strata.transforms.registry]]``.

    Attributes:
        ref: Glob on ``name@version``; ``*`` stands for any characters, ``?`` for one.
        executor_url: Where it runs: ``embedded://local``, in sandboxed processes of this machine, or the base
            URL of an executor, to which ``/v1/execute`` is added.
        token_file: File with the bearer token that the executor demands; None: it demands none.
        transport: ``direct``: inputs and result are in the request to the executor and in its answer;
            ``signed``: the executor fetches and brings them by signed URLs.
        strata_url: Base URL at which the executor reaches this very process; needed for ``signed``.
        tables: ``arrow``: rows of tables are sent to the executor; ``reference``: it is told the snapshot and
            reads the files itself, where the caller may read every cell.
        timeout_seconds: Seconds a build may take from its start; then its process is killed.
        max_output_bytes: Most Arrow bytes of a result; 0: the tenant's ``max_response_bytes`` alone.
        max_input_bytes: Most Arrow bytes of all inputs together; 0: no such limit.
        requires_scope: Scope that the caller must have; None: none.
        tenants: Tenants that may run it; None: all.
        scopes: Scopes of which the caller must have one; None: none.
    """

    ref: str
    executor_url: str = EMBEDDED
    timeout_seconds: float = 300.0
    max_output_bytes: int = 0
    max_input_bytes: int = 0
    requires_scope: str | None = None
    tenants: tuple[str, ...] | None = None
    scopes: tuple[str, ...] | None = None
    token_file: str | None = None
    transport: str = "direct"
    strata_url: str | None = None
    tables: str = "arrow"

    @property
    def embedded(self) -> bool:
        """Return whether it runs in processes of this machine."""
        return self.executor_url == EMBEDDED


@attrs.frozen
class TransformSection:
    """The table ``[tool.strata.transforms]``.

    Attributes:
        enabled: Whether the registered transforms can be run.
        sandbox: ``prefer``: run with the walls that the kernel has; ``require``: start only with all of them.
        registry: The registered transforms; of those that match a request, the first one counts.
    """

    enabled: bool = False
    sandbox: str = "prefer"
    registry: tuple[RegisteredTransform, ...] = ()


HEADER, TOKEN_EXCHANGE = "header", "token_exchange"
"""How the identity of callers is passed on to a catalog."""


@attrs.frozen
class CatalogCallers:
    """How a REST catalog is queried as the caller: a table of ``[tool.strata.catalog_callers]``.

    Attributes:
        pass_by: ``header``: each request has the identity in a header; ``token_exchange``: each request has
            an access token that the server has exchanged for the identity (RFC 8693).
        identity: Form of the identity, of ``{principal}``, ``{tenant}`` and other text.
        header: Name of the header.
        token_url: URL of the token service.
        credential_file: File with ``client_id:client_secret`` of the server at the token service.
        subject: ``jwt``: the identity is the subject of a JWT that the client's secret signs; ``identity``:
            it is the subject token itself.
        subject_token_type: The token service's name (a URI) of that type of token; None: of a JWT.
        audience: Audience of the token, as the token service names the catalog; None: none is demanded.
        scope: Scopes of the token; None: none are demanded.
    """

    pass_by: str
    identity: str = "{principal}"
    header: str = "X-Iceberg-Principal"
    token_url: str | None = None
    credential_file: str | None = attrs.field(default=None, repr=False)
    subject: str = "jwt"
    subject_token_type: str | None = None
    audience: str | None = None
    scope: str | None = None


@attrs.frozen
class NotebookWorker:
    """Where cells of notebooks run: one table of ``[[tool.strata.notebook_workers]]``.

    Attributes:
        name: Its name, for ``# @worker``.
        url: Where it is: ``embedded://local``, in sandboxed processes of this machine, or the base URL of an
            executor that runs cells.
        token_file: File with the bearer token that the executor demands; None: it demands none.
        runtime_id: Identity of its interpreter and libraries; None: their versions.
        enabled: Whether cells run on it.
        tenants: Tenants that may use it; None: all.
        max_concurrent: Cells that run at a time.
        max_concurrent_per_tenant: The same, of one tenant.
        memory_bytes: Bytes of memory that a cell may allocate.
        cpu_seconds: Whole seconds of the processor that a cell may use.
        wall_seconds: Seconds that a cell may run, unless ``# @timeout`` names fewer.
        output_bytes: Bytes of a cell's values and displays.
        console_bytes: Bytes that a cell may print.
    """

    name: str
    url: str = EMBEDDED
    runtime_id: str | None = None
    enabled: bool = True
    tenants: tuple[str, ...] | None = None
    max_concurrent: int = 4
    max_concurrent_per_tenant: int = 2
    memory_bytes: int = 1073741824
    cpu_seconds: int = 600
    wall_seconds: float = 300.0
    output_bytes: int = 1073741824
    console_bytes: int = 1048576
    token_file: str | None = None

    @property
    def embedded(self) -> bool:
        """Return whether cells run in processes of this machine."""
        return self.url == EMBEDDED


@attrs.frozen
class NotebookEnvironment:
    """Packages with which cells of notebooks run: one table of ``[[tool.strata.notebook_environments]]``.

    Attributes:
        name: Its name, for ``environment`` in the metadata of a notebook.
        lock_file: File with the version and the hashes of each package.
        tenants: Tenants that may use it; None: all.
    """

    name: str
    lock_file: str
    tenants: tuple[str, ...] | None = None


@attrs.frozen
class TenantOnly:
    """Settings that exist only for a single tenant."""

    weight: float = setting(
        1.0,
        "Share of the machine, relative to other tenants, while tenants compete (default 1).",
        least=0.01,
        most=100,
    )
    enabled: bool = setting(True, "Serve the tenant; when false, its requests are answered 403.")
