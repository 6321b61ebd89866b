"""What a page of another site can make a browser send is refused; what programs send is not."""

import pytest

from strata.http.door.cross_site import TrustedHosts, refuse_body

SERVICE = TrustedHosts(forwarded=True)
NAMED = TrustedHosts(frozenset({"strata.example", "ui.example"}), checked=True, forwarded=True)
PERSONAL = TrustedHosts(checked=True, own=frozenset({"localhost", "127.0.0.1"}))
REMOTE = TrustedHosts(checked=True, own=frozenset({"localhost", "box.lan"}), addresses=True)


def fields(**given: str) -> list[tuple[bytes, bytes]]:
    """Return headers: an underscore in a name stands for a hyphen."""
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]


def codes(hosts: TrustedHosts, method: str = "POST", **given: str) -> tuple[str | None, str | None]:
    """Return the error codes of the two refusals of a request, by its host and by its site."""
    by_host, by_site = hosts.refuse_host(fields(**given)), hosts.refuse_site(method, fields(**given))
    return by_host and by_host.error, by_site and by_site.error


def is_foreign(hosts: TrustedHosts, method: str = "POST", **given: str) -> bool:
    """Whether a request counts as another site's."""
    return codes(hosts, method, **given)[1] == "foreign_site"


@pytest.mark.parametrize("hosts", [SERVICE, NAMED, PERSONAL, REMOTE])
def test_a_program_sends_no_browsers_headers_and_passes(hosts: TrustedHosts) -> None:
    """Clients, curl and proxies that send neither Origin nor Sec-Fetch-Site are not concerned."""
    assert not is_foreign(hosts, host="localhost:8765")


@pytest.mark.parametrize(
    ("given", "foreign"),
    [
        ({"sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"sec_fetch_site": "same-origin", "origin": "https://renamed.by.the.proxy"}, False),
        ({"sec_fetch_site": "cross-site"}, True),
        ({"sec_fetch_site": "same-site"}, True),
        ({"sec_fetch_site": "anything"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "https://s.example"}, True),
        ({"origin": "https://s.example"}, False),
        ({"origin": "https://S.EXAMPLE:443"}, False),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "https://s.example.evil.example"}, True),
        ({"origin": "https://s.example@evil.example"}, True),
        ({"origin": "https://s.example:8443"}, True),
        ({"origin": "null"}, True),
        ({"origin": ""}, True),
        ({"origin": "file://s.example"}, True),
    ],
)
def test_the_browsers_word_decides_and_else_the_origin(given: dict[str, str], *, foreign: bool) -> None:
    """A page's origin must be the host and port that its request names."""
    assert foreign == is_foreign(SERVICE, host="s.example", **given)


def test_several_origins_are_foreign() -> None:
    """Two Origin headers are no origin."""
    twice = [(b"host", b"s.example"), *fields(origin="https://s.example") * 2]
    assert SERVICE.refuse_site("POST", twice) is not None


@pytest.mark.parametrize(
    ("method", "foreign"),
    [("GET", False), ("HEAD", False), ("OPTIONS", False)]
    + [(method, True) for method in ("POST", "PUT", "PATCH", "DELETE", "LOCK")],
)
def test_only_requests_that_may_change_something_are_refused(method: str, *, foreign: bool) -> None:
    """A link from another page goes on working."""
    assert foreign == is_foreign(SERVICE, method, host="s.example", sec_fetch_site="cross-site")


@pytest.mark.parametrize("hosts", [SERVICE, NAMED])
def test_behind_a_proxy_the_users_host_is_the_forwarded_one(hosts: TrustedHosts) -> None:
    """The proxy may send any Host to its upstream, and state the user's in X-Forwarded-Host."""
    given = {"host": "upstream:8765", "x_forwarded_host": "strata.example:8443, inner.example"}
    assert (None, None) == codes(hosts, **given, origin="https://strata.example:8443")
    assert is_foreign(hosts, **given, origin="https://other.example:8443")


def test_personal_mode_believes_no_forwarded_host() -> None:
    """There is no proxy that would have set it."""
    given = {"host": "localhost:1", "x_forwarded_host": "evil.example", "origin": "http://evil.example"}
    assert is_foreign(PERSONAL, **given)


def test_pages_of_allowed_hosts_may_send_requests() -> None:
    """Any port of a named host is trusted; pages of another port of localhost are not."""
    assert not is_foreign(NAMED, host="strata.example", origin="https://ui.example:3000")
    assert not is_foreign(NAMED, host="x", origin="https://UI.example", sec_fetch_site="cross-site")
    assert is_foreign(PERSONAL, host="localhost:8765", origin="http://localhost:3000")


@pytest.mark.parametrize(
    ("hosts", "host", "own"),
    [
        (SERVICE, "anything.example", True),
        (NAMED, "strata.example", True),
        (NAMED, "STRATA.example:8443", True),
        (NAMED, "evil.example", False),
        (NAMED, "strata.example.evil.example", False),
        (NAMED, "127.0.0.1", False),
        (PERSONAL, "localhost:8765", True),
        (PERSONAL, "LOCALHOST", True),
        (PERSONAL, "127.0.0.1:8765", True),
        (PERSONAL, "127.5.5.5", True),
        (PERSONAL, "[::1]:8765", True),
        (PERSONAL, "evil.example:8765", False),
        (PERSONAL, "localhost.evil.example", False),
        (PERSONAL, "192.0.2.1", False),
        (PERSONAL, "", False),
        (PERSONAL, "localhost:80:80", False),
        (PERSONAL, "[::1", False),
        (REMOTE, "192.0.2.1:8765", True),
        (REMOTE, "[2001:db8::1]", True),
        (REMOTE, "box.lan:8765", True),
        (REMOTE, "evil.example", False),
    ],
)
def test_a_request_must_name_a_host_that_the_server_is(hosts: TrustedHosts, host: str, *, own: bool) -> None:
    """A page whose name was made to point at this machine still names its own host."""
    assert (None if own else "foreign_host") == codes(hosts, host=host)[0]


def test_http_1_0_without_a_host_passes() -> None:
    """No browser sends such a request."""
    assert (None, None) == codes(PERSONAL)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"content_type": "application/json"}, None),
        ({"content_type": "Application/JSON ; charset=utf-8"}, None),
        ({"content_type": "application/problem+json"}, None),
        ({"content_type": "application/json", "content_encoding": "identity"}, None),
        ({}, "unsupported_media_type"),
        ({"content_type": ""}, "unsupported_media_type"),
        ({"content_type": "text/plain"}, "unsupported_media_type"),
        ({"content_type": "text/plain;application/json"}, "unsupported_media_type"),
        ({"content_type": "application/jsonp"}, "unsupported_media_type"),
        ({"content_type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
        ({"content_type": "multipart/form-data; boundary=x"}, "unsupported_media_type"),
        ({"content_type": "application/json", "content_encoding": "gzip"}, "unsupported_content_encoding"),
        (
            {"content_type": "application/json", "content_encoding": "br, gzip"},
            "unsupported_content_encoding",
        ),
    ],
)
def test_a_body_must_be_declared_as_plain_json(given: dict[str, str], code: str | None) -> None:
    """An HTML form cannot send that type, and a compressed body is not read."""
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        found = refuse_body(method, fields(**given), b"{}")
        assert code == (found and found.error)
        assert found is None or found.status == 415


def test_without_a_body_no_type_is_needed() -> None:
    """Neither is it where a body is ignored."""
    assert refuse_body("POST", [], b"") is None
    assert refuse_body("GET", [], b"x") is None
