"""The pages for browsers: their files, the policy they come with, and problems as pages."""

import gzip
from pathlib import Path

import attrs
import pytest
from service_kit import Running, identity

from strata.http.api import docs
from strata.http.door.error_pages import wants_page
from strata.http.routes.pages import files
from strata.ui import load_pages

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve two files as the pages."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>Pages</title>")
    script = tmp_path / "assets" / "index-abc.js"
    script.write_text("// the script")
    script.with_name("index-abc.js.gz").write_bytes(gzip.compress(b"// the script", mtime=0))
    (tmp_path / "assets" / "secret.pem").write_text("no file of the pages")
    pages = load_pages(tmp_path)
    monkeypatch.setattr(files, "installed_pages", lambda: pages)
    monkeypatch.setattr(docs, "installed_pages", lambda: pages)


async def test_a_browser_is_led_to_the_pages_and_a_program_is_not(server: Running, built: None) -> None:
    """A browser that opens / gets a relative redirect; a program gets the 404 that it always got."""
    async with server.client(**identity()) as client:
        led = await client.get("/", headers=BROWSER)
        assert (303, "ui/data", "no-store") == (
            led.status_code, led.headers["Location"], led.headers["Cache-Control"],
        )  # fmt: skip
        led = await client.get("/docs", headers=BROWSER)
        assert (303, "ui/api") == (led.status_code, led.headers["Location"])
        assert "/v1/materialize" in (await client.get("/docs")).text
        for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}, {"Accept": "text/html;q=0"}):
            found = await client.get("/", headers=headers)
            assert (404, "No such path") == (found.status_code, found.json()["detail"])
            assert "application/problem+json" == found.headers["Content-Type"]


async def test_the_document_comes_with_a_strict_policy(server: Running, built: None) -> None:
    """Each page is the one document, with a policy that allows nothing inline and no frame."""
    async with server.client(**identity()) as client:
        for name in files.NAMES:
            page = await client.get(f"/ui/{name}?uri=demo:a.b", headers=BROWSER)
            assert (200, "text/html; charset=utf-8") == (page.status_code, page.headers["Content-Type"])
            assert "<title>Pages</title>" in page.text
            policy = page.headers["Content-Security-Policy"]
            assert "unsafe" not in policy
            assert {"default-src 'none'", "frame-ancestors 'none'", "script-src 'self'"} <= set(
                policy.split("; ")
            )
            assert "nosniff" == page.headers["X-Content-Type-Options"]
            assert "no-cache" == page.headers["Cache-Control"]
        assert 404 == (await client.get("/ui/other", headers=BROWSER)).status_code


async def test_files_are_kept_by_browsers_and_compressed(server: Running, built: None) -> None:
    """A file is immutable under its name, compressed for who takes that, and no other file is served."""
    async with server.client(**identity()) as client:
        plain = await client.get("/ui/assets/index-abc.js", headers={"Accept-Encoding": "identity"})
        packed = await client.get("/ui/assets/index-abc.js", headers={"Accept-Encoding": "br, gzip"})
        head = await client.head("/ui/assets/index-abc.js")
        assert "// the script" == plain.text == packed.text
        assert "gzip" == packed.headers["Content-Encoding"]
        assert "Content-Encoding" not in plain.headers
        for answer in (plain, packed, head):
            assert (200, "text/javascript; charset=utf-8") == (
                answer.status_code, answer.headers["Content-Type"],
            )  # fmt: skip
            assert "immutable" in answer.headers["Cache-Control"]
            assert "Accept-Encoding" == answer.headers["Vary"]
            assert "nosniff" == answer.headers["X-Content-Type-Options"]
        for name in ("secret.pem", "index.html", "..%2Findex.html", "%2e%2e/pages/files.py", "none.js"):
            assert 404 == (await client.get(f"/ui/assets/{name}")).status_code, name
        refused = await client.post("/ui/assets/index-abc.js")
        assert (405, {"GET", "HEAD", "OPTIONS"}) == (
            refused.status_code, set(refused.headers["Allow"].split(", ")),
        )  # fmt: skip


async def test_pages_need_an_identity_as_all_else(server: Running, built: None) -> None:
    """Without an identity every address of the pages is a 401, as a page or as JSON."""
    async with server.client(Accept="*/*") as client:
        for path in ("/", "/ui/data", "/ui/assets/index-abc.js"):
            refused = await client.get(path, headers=BROWSER)
            assert (401, "text/html; charset=utf-8") == (refused.status_code, refused.headers["Content-Type"])
            assert refused.headers["X-Request-ID"] in refused.text
            assert "<script" not in refused.text
            assert 401 == (await client.get(path)).json()["status"]


async def test_problems_are_pages_for_browsers_with_the_way_out(server: Running, built: None) -> None:
    """The same sentence and request id as in JSON; relative links, for a proxy may have put a path before."""
    named = identity() | {"X-Request-ID": "<script>alert(1)</script>"}
    async with server.client(**named) as client:
        for path, status, root in (
            ("/v1/artifacts/none/v/1", 404, "../../../../"),
            ("/nothing", 404, "./"),
            ("/v1/cache/stats", 403, "../../"),
        ):
            found = await client.get(path)
            page = await client.get(path, headers=BROWSER)
            assert (status, status) == (found.status_code, page.status_code)
            assert "text/html; charset=utf-8" == page.headers["Content-Type"]
            assert found.json()["detail"] in page.text
            assert f'href="{root}ui/me"' in page.text
            assert "<script" not in page.text
            assert "&lt;script&gt;alert(1)" in page.text  # the request's id, which the client chose
            policy = page.headers["Content-Security-Policy"]
            assert "unsafe" not in policy
            assert "script-src" not in policy
        missing = await client.get("/v1/tables/describe?uri=<b>x</b>:a.b", headers=BROWSER)
        assert "<b>x" not in missing.text


async def test_a_server_without_pages_says_so_and_why(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the wheel was built without pages, their addresses say so and what to do."""
    monkeypatch.setattr(files, "installed_pages", lambda: None)
    async with server.client(**identity()) as client:
        for path in ("/", "/ui/data"):
            page = await client.get(path, headers=BROWSER)
            assert 404 == page.status_code
            assert "built without its pages" in page.text
            assert "HATCH_BUILD_STRATA_PAGES" in page.text
        assert "pages_not_built" == (await client.get("/ui/data")).json()["error"]


@attrs.frozen
class Asked:
    accept: tuple[str, ...]
    page: bool


@pytest.mark.parametrize(
    "asked",
    [
        Asked((), page=False),
        Asked(("*/*",), page=False),
        Asked(("application/json",), page=False),
        Asked(("text/html",), page=True),
        Asked(("application/json, Text/HTML ;q=0.5",), page=True),
        Asked(("text/html;q=0",), page=False),
        Asked(("text/html; q=0.0",), page=False),
        Asked(("text/html;level=1",), page=True),
        Asked(("text/htmlx, application/text/html",), page=False),
        Asked(("application/json", "text/html"), page=True),
    ],
    ids=lambda asked: ", ".join(asked.accept) or "nothing",
)
def test_who_wants_a_page_says_so(asked: Asked) -> None:
    """Only an Accept that names text/html, with a weight over zero, asks for a page."""
    headers = tuple((b"accept", value.encode()) for value in asked.accept)
    assert asked.page is wants_page(headers)
