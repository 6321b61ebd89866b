"""The boot matrix: which configurations start, and the exact problems of all others."""

from pathlib import Path

import pytest

from strata.acl import Policy
from strata.config import Settings, validate_mode_coherence

TOKEN = "a-token-of-twenty-characters"
SERVICE = {
    "deployment_mode": "service",
    "auth_mode": "trusted_proxy",
    "proxy_token": TOKEN,
    "artifact_dir": "{tmp}/artifacts",
    "cache_dir": "{tmp}/cache",
}
PERSONAL = {"artifact_dir": "{tmp}/artifacts", "cache_dir": "{tmp}/cache"}

NO_AUTH = "auth_mode: service mode requires an identity for every request; set auth_mode = trusted_proxy."
NO_TOKEN = (
    "proxy_token: trusted_proxy requires a secret shared with the proxy; set proxy_token or proxy_token_file."
)
BLANK = "proxy_token: the token is blank; use at least 16 random characters."
SHORT = "proxy_token: the token has 15 characters; use at least 16 random ones."
UNSENDABLE = "proxy_token: a header cannot carry the token; use printable ASCII without surrounding spaces."
NO_TARGET = (
    "artifact_dir: service mode has no default directory for results; set artifact_dir to a persistent one."
)
NO_LOCAL = (
    "artifact_dir: metadata needs a local directory; set artifact_dir, or keep it by artifact_metadata_dsn."
)
PROXY_IN_PERSONAL = "auth_mode: trusted_proxy requires service mode; set deployment_mode = service."
TENANTS_IN_PERSONAL = "multi_tenant_enabled: tenants require service mode; set deployment_mode = service."
HEADER_IN_PERSONAL = "require_tenant_header: tenants require service mode; set deployment_mode = service."
HEADER_ALONE = (
    "require_tenant_header: tenants are off; set multi_tenant_enabled = true, or remove this setting."
)
USER_HEADER = (
    "personal_mode_user_header: service mode does not accept unauthenticated user names; remove this setting."
)
RULES = "acl_config: access rules require authentication; set auth_mode = trusted_proxy, or remove the rules."


ONE_PORT = "metrics_port: 8765 is also port; give each its own."
TLS_ALONE = "{}: requires tls_certificate; set it as well, or remove this setting."


def remote(host: str) -> str:
    return (
        f"host: {host} is reachable from other machines, and personal mode has no authentication; "
        "listen on 127.0.0.1, or set allow_remote_clients_in_personal = true."
    )


MATRIX: list[tuple[str, dict, list[str]]] = [
    ("personal by default", PERSONAL, []),
    ("the minimum of service mode", SERVICE, []),
    ("service with tenants", SERVICE | {"multi_tenant_enabled": True, "require_tenant_header": True}, []),
    ("service with rules", SERVICE | {"acl_config": Policy()}, []),
    ("service on every address", SERVICE | {"host": "0.0.0.0"}, []),
    ("metrics on the port of requests", SERVICE | {"port": 8765, "metrics_port": 8765}, [ONE_PORT]),
    ("the same on every address", SERVICE | {"host": "0.0.0.0", "port": 8765, "metrics_port": 8765}, [ONE_PORT]),
    ("one port, two addresses", SERVICE | {"host": "127.0.0.2", "port": 8765, "metrics_port": 8765}, []),
    ("any free port, twice", SERVICE | {"port": 0, "metrics_port": 0}, []),
    ("service with a rotated token", SERVICE | {"proxy_token_previous": TOKEN + "2"}, []),
    ("service with host names", SERVICE | {"allowed_hosts": "strata.example, 192.0.2.1,[2001:db8::1],"}, []),
    (
        "a URL as a host name",
        SERVICE | {"allowed_hosts": "strata.example,https://ui.example"},
        [
            (
                "allowed_hosts: 'https://ui.example' is not a host name; write names without scheme and port, "
                "separated by commas."
            )
        ],
    ),
    (
        "signed addresses of local files",
        SERVICE | {"artifact_presigned_seconds": 30},
        [
            "artifact_presigned_seconds: local results have no address to sign; set artifact_blob_backend.",
            "artifact_presigned_seconds: no proxy is told to fetch results; set accel_redirect to the location that fetches them.",
        ],
    ),
    (
        "signed addresses without a key",
        SERVICE
        | {"artifact_presigned_seconds": 30, "artifact_blob_backend": "s3", "artifact_s3_bucket": "b"}
        | {"accel_redirect": "/_strata/objects", "s3_anonymous": True},
        ["s3_anonymous: no address can be signed with it; remove it, or artifact_presigned_seconds."],
    ),
    ("personal on IPv6 loopback", PERSONAL | {"host": "::1"}, []),
    ("personal on localhost", PERSONAL | {"host": "localhost"}, []),
    ("personal on purpose remote", PERSONAL | {"host": "0.0.0.0", "allow_remote_clients_in_personal": True}, []),
    ("personal with a user header", PERSONAL | {"personal_mode_user_header": "X-User"}, []),
    ("a key without a certificate", SERVICE | {"tls_key": "{tmp}/file"}, [TLS_ALONE.format("tls_key")]),
    ("clients' authority without a certificate", SERVICE | {"tls_client_ca": "{tmp}/file"}, [TLS_ALONE.format("tls_client_ca")]),
    ("a certificate that is not there", SERVICE | {"tls_certificate": "{tmp}/none"}, ["tls_certificate: {tmp}/none cannot be read: No such file or directory; check its path and permissions."]),
    ("a certificate that is none", SERVICE | {"tls_certificate": "{tmp}/file"}, ["tls_certificate: {tmp}/file is not a PEM certificate with its key; name another file, or set tls_key."]),
    ("an empty certificate", SERVICE | {"tls_certificate": "{tmp}/file", "tls_key": "{tmp}/file"}, ["tls_certificate: {tmp}/file is not a PEM certificate with its key; name another file."]),
    ("a socket where a file is", SERVICE | {"unix_socket": "{tmp}/file"}, ["unix_socket: {tmp}/file exists and is not a socket; remove it, or name another path."]),
    ("a socket nowhere", SERVICE | {"unix_socket": "{tmp}/none/s"}, ["unix_socket: {tmp}/none is not a directory; name another path."]),
    ("a socket with too long a path", SERVICE | {"unix_socket": "/" + "s" * 200}, ["unix_socket: the path is longer than 107 bytes; use a shorter one."]),
    ("personal on a socket, whatever the host", PERSONAL | {"host": "0.0.0.0", "unix_socket": "{tmp}/s"}, []),
    ("service alone", {"deployment_mode": "service", "cache_dir": "{tmp}/cache"}, [NO_AUTH, NO_TARGET]),
    ("service without auth", SERVICE | {"auth_mode": "none"}, [NO_AUTH]),
    ("service without a token", SERVICE | {"proxy_token": None}, [NO_TOKEN]),
    ("an empty token", SERVICE | {"proxy_token": ""}, [BLANK]),
    ("a blank token", SERVICE | {"proxy_token": " " * 20}, [BLANK]),
    ("a short token", SERVICE | {"proxy_token": "x" * 15}, [SHORT]),
    ("a token just long enough", SERVICE | {"proxy_token": "x" * 16}, []),
    ("a token no header can carry", SERVICE | {"proxy_token": "é" * 20}, [UNSENDABLE]),
    ("a token with a line break", SERVICE | {"proxy_token": TOKEN + "\n"}, [UNSENDABLE]),
    ("a short previous token", SERVICE | {"proxy_token_previous": "x" * 15}, [SHORT.replace("token", "token_previous", 1)]),
    ("a blank previous token", SERVICE | {"proxy_token_previous": ""}, [BLANK.replace("token", "token_previous", 1)]),
    ("service without a persistent target", SERVICE | {"artifact_dir": None}, [NO_TARGET]),
    ("s3 without its bucket", SERVICE | {"artifact_blob_backend": "s3"}, ["artifact_s3_bucket: artifact_blob_backend = s3 requires artifact_s3_bucket; set it."]),
    ("gcs without its bucket", SERVICE | {"artifact_blob_backend": "gcs"}, ["artifact_gcs_bucket: artifact_blob_backend = gcs requires artifact_gcs_bucket; set it."]),
    ("azure without its container", SERVICE | {"artifact_blob_backend": "azure"}, ["artifact_azure_container: artifact_blob_backend = azure requires artifact_azure_container; set it."]),
    ("s3 with no local directory", SERVICE | {"artifact_dir": None, "artifact_blob_backend": "s3", "artifact_s3_bucket": "b"}, [NO_LOCAL]),
    ("s3 with only a metadata database", SERVICE | {"artifact_dir": None, "metadata_db": "{tmp}/m.db", "artifact_blob_backend": "s3", "artifact_s3_bucket": "b"}, [NO_LOCAL]),
    ("s3 and PostgreSQL with no local directory", SERVICE | {"artifact_dir": None, "artifact_metadata_dsn": "postgresql://db.example/strata", "artifact_blob_backend": "s3", "artifact_s3_bucket": "b"}, []),
    ("PostgreSQL alone with no local directory", SERVICE | {"artifact_dir": None, "artifact_metadata_dsn": "postgresql://db.example/strata"}, [NO_TARGET]),
    ("a metadata database that is a directory", SERVICE | {"metadata_db": "{tmp}/locked"}, ["metadata_db: {tmp}/locked is a directory; name a file."]),
    ("personal behind a proxy's token", PERSONAL | {"auth_mode": "trusted_proxy", "proxy_token": TOKEN}, [PROXY_IN_PERSONAL]),
    ("personal with tenants", PERSONAL | {"multi_tenant_enabled": True}, [TENANTS_IN_PERSONAL]),
    ("personal with a required tenant", PERSONAL | {"require_tenant_header": True}, [HEADER_IN_PERSONAL]),
    ("personal with all of it", PERSONAL | {"auth_mode": "trusted_proxy", "multi_tenant_enabled": True, "require_tenant_header": True},
     [PROXY_IN_PERSONAL, TENANTS_IN_PERSONAL, HEADER_IN_PERSONAL, NO_TOKEN]),
    ("personal on every address", PERSONAL | {"host": "0.0.0.0"}, [remote("0.0.0.0")]),
    ("personal on every IPv6 address", PERSONAL | {"host": "::"}, [remote("::")]),
    ("personal on a name", PERSONAL | {"host": "strata.example.com"}, [remote("strata.example.com")]),
    ("a required tenant without tenants", SERVICE | {"require_tenant_header": True}, [HEADER_ALONE]),
    ("service with a user header", SERVICE | {"personal_mode_user_header": "X-User"}, [USER_HEADER]),
    ("rules with no authentication", PERSONAL | {"acl_config": Policy()}, [RULES]),
    ("two roles on one header", SERVICE | {"tenant_header": "x-strata-principal"}, ["tenant_header: x-strata-principal already carries principal_header; choose another header."]),
    ("a role on the token's header", SERVICE | {"principal_header": "X-Strata-Proxy-Token"}, ["principal_header: X-Strata-Proxy-Token already carries the proxy token; choose another header."]),
    ("a role on the tenant's alias", SERVICE | {"principal_header": "X-Strata-Tenant"}, ["principal_header: X-Strata-Tenant always carries the tenant; choose another header."]),
    ("no header name", SERVICE | {"tenant_header": "X Tenant"}, ["tenant_header: 'X Tenant' is not a header name; use letters, digits and hyphens."]),
    ("an artifact directory that is a file", SERVICE | {"artifact_dir": "{tmp}/file"}, ["artifact_dir: {tmp}/file is not a directory; name another path."]),
    ("a cache directory below a file", SERVICE | {"cache_dir": "{tmp}/file/x"}, ["cache_dir: {tmp}/file is not a directory; name another path."]),
    ("a warehouse that is a file", SERVICE | {"warehouses": {"wh": "{tmp}/file"}}, ["warehouses.wh: {tmp}/file is not a directory; name another path."]),
    ("a directory that is not writable", SERVICE | {"artifact_dir": "{tmp}/locked/x"}, ["artifact_dir: this process cannot write to {tmp}/locked; change its permissions, or name another path."]),
    ("cache and artifacts in one place", SERVICE | {"cache_dir": "{tmp}/artifacts"}, ["cache_dir: {tmp}/artifacts is also artifact_dir; give each its own directory."]),
    ("the cache inside the artifacts", SERVICE | {"cache_dir": "{tmp}/artifacts/c"}, ["cache_dir: {tmp}/artifacts/c lies inside artifact_dir; give each its own directory."]),
    ("the artifacts inside a warehouse", SERVICE | {"warehouses": {"wh": "{tmp}"}},
     ["artifact_dir: {tmp}/artifacts lies inside warehouses.wh; give each its own directory.", "cache_dir: {tmp}/cache lies inside warehouses.wh; give each its own directory."]),
    ("metadata inside the cache", SERVICE | {"metadata_db": "{tmp}/cache/m.db"}, ["metadata_db: {tmp}/cache/m.db lies inside cache_dir; name a path outside of it."]),
    ("metadata in a warehouse", SERVICE | {"metadata_db": "{tmp}/wh/catalog.db", "warehouses": {"wh": "{tmp}/wh"}}, ["metadata_db: {tmp}/wh/catalog.db lies inside warehouses.wh; name a path outside of it."]),
    ("metadata beside the results", SERVICE | {"metadata_db": "{tmp}/artifacts/m.db"}, []),
    ("metadata below a file", SERVICE | {"metadata_db": "{tmp}/file/m.db"}, ["metadata_db: {tmp}/file is not a directory; name another path."]),
    ("metadata in an unwritable directory", SERVICE | {"metadata_db": "{tmp}/locked/m.db"}, ["metadata_db: this process cannot write to {tmp}/locked; change its permissions, or name another path."]),
    ("two aliases of one warehouse", SERVICE | {"warehouses": {"a": "{tmp}/wh", "b": "{tmp}/wh"}}, []),
]  # fmt: skip


def fill(value: object, tmp: Path) -> object:
    if isinstance(value, str):
        return value.replace("{tmp}", str(tmp))
    if isinstance(value, dict):
        return {key: fill(item, tmp) for key, item in value.items()}
    return value


@pytest.mark.parametrize(("values", "expected"), [row[1:] for row in MATRIX], ids=[row[0] for row in MATRIX])
def test_boots_or_refuses_in_these_words(tmp_path: Path, values: dict, expected: list[str]) -> None:
    """A configuration has exactly the expected problems, in a fixed order, and the check creates no files."""
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir()
    settings = Settings(**{key: fill(value, tmp_path) for key, value in values.items()})

    found = validate_mode_coherence(settings, writable=lambda path: path.name != "locked")

    assert [fill(text, tmp_path) for text in expected] == [str(problem) for problem in found]
    assert {"file", "locked"} == {path.name for path in tmp_path.iterdir()}, "a check creates nothing"


def test_the_matrix_has_thirty_configurations_or_more() -> None:
    """The matrix has at least 30 rows with unique names, so that a failure names its row."""
    assert len(MATRIX) == len({row[0] for row in MATRIX}) >= 30
