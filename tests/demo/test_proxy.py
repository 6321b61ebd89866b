import pytest

from strata.demo.proxy import DEMO_ADMIN, DEMO_USER, inject_identity

TOKEN = "a-token-of-the-demo"
IDENTITY = {
    b"x-strata-proxy-token": TOKEN.encode(),
    b"x-strata-principal": b"demo-user",
    b"x-strata-scopes": b"notebook:read notebook:write notebook:execute",
    b"x-tenant-id": b"demo-team",
}


async def through(headers, kind="http"):
    """Return the scope that arrives behind the proxy."""
    arrived = {}

    async def app(scope, receive, send):
        arrived.update(scope)

    sent = {"type": kind, "path": "/v1/artifacts", "headers": headers}
    await inject_identity(app, DEMO_USER.headers(TOKEN))(sent, None, None)
    assert sent["headers"] == headers, "the caller's own scope is left alone"
    return arrived


async def test_a_port_gives_every_caller_its_identity():
    """The four headers of the wire contract are set, once each, and nothing else is changed."""
    arrived = await through([(b"accept", b"*/*"), (b"host", b"h")])

    assert [(b"accept", b"*/*"), (b"host", b"h"), *IDENTITY.items()] == arrived["headers"]
    assert arrived["path"] == "/v1/artifacts"


@pytest.mark.parametrize(
    "name",
    [
        b"x-strata-principal",
        b"X-Strata-Principal",
        b"x_strata_principal",
        b"X_STRATA-principal",
        b"x.strata.principal",
        b"-x-strata-principal-",
        b"x-strata-proxy-token",
        b"x_strata_proxy_token",
        b"x-strata-scopes",
        b"X_Strata_Scopes",
        b"x-tenant-id",
        b"x_tenant_id",
        b"x-strata-tenant",
        b"x_strata_tenant",
    ],
)
async def test_no_caller_sets_an_identity_header_under_any_spelling(name):
    """Both tenant names, and underscore spellings that CGI-like layers fold together, are dropped."""
    arrived = await through([(name, b"demo-admin"), (name, b"twice")])

    assert list(IDENTITY.items()) == arrived["headers"]


@pytest.mark.parametrize(
    "name", [b"x-strata-principal-hint", b"strata-principal", b"authorization", b"x-request-id"]
)
async def test_other_headers_pass(name):
    """The proxy changes identity headers only."""
    arrived = await through([(name, b"kept")])

    assert (name, b"kept") in arrived["headers"]


async def test_scopes_without_headers_pass_unchanged():
    """Lifespan scopes have no headers."""
    assert (await through([], kind="lifespan"))["headers"] == []


def test_a_port_opens_the_sockets_of_the_server():
    """The browser's WebSocket passes, by the paths of the application behind the port."""

    class App:
        opens_socket = staticmethod(lambda target: target == b"/v1/notebooks/n/session")

    proxied = inject_identity(App(), DEMO_USER.headers("t" * 32))
    assert proxied.opens_socket(b"/v1/notebooks/n/session")
    assert not proxied.opens_socket(b"/v1/me")


def test_the_ports_speak_for_the_callers_of_the_product_page():
    """Principals, scopes and tenant are those of the product page."""
    assert DEMO_ADMIN.headers(TOKEN) == {
        "X-Strata-Proxy-Token": TOKEN,
        "X-Strata-Principal": "demo-admin",
        "X-Strata-Scopes": "admin:* notebook:*",
        "X-Tenant-ID": "demo-team",
    }
