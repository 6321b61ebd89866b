"""The pages' sources agree with the server: its answers, its routes and the pages that it serves."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pages_kit import pages

from strata.http.routes.app import create_app
from strata.http.routes.pages import files

WEB = Path(__file__).parents[2] / "strata" / "ui" / "web"
SOURCES = sorted((WEB / "src").rglob("*.ts*"))

_INTERFACE = re.compile(r"export interface (\w+) \{\n(.*?)\n\}", re.DOTALL)
_FIELD = re.compile(r"  (\w+)(\??): (.+);")
_ROUTE = re.compile(r'["`](/v1/[^"`?]*)["`]')

FIRST_LOAD_BYTES = 250_000
"""Compressed bytes of all that a browser loads to show the first page, at most."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Return the description of the API."""
    app = create_app(personal=False)
    found = app.extensions["QUART_SCHEMA"].openapi_provider
    import anyio  # noqa: PLC0415  # what the application itself runs its context with

    async def read() -> dict[str, Any]:
        async with app.app_context():
            return dict(found.schema())

    return anyio.run(read, backend="trio")


def kind(schema: dict[str, Any]) -> str:
    """Return a schema as a type of TypeScript, as far as the pages tell types apart."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return "string"
    match schema.get("type"):
        case "integer" | "number":
            return "number"
        case "array":
            return f"{kind(schema['items'])}[]"
        case "object":
            values = schema.get("additionalProperties")
            return f"Record<string, {kind(values) if isinstance(values, dict) else 'unknown'}>"
        case None:
            return "unknown"
        case found:
            return str(found)


def test_the_types_of_the_pages_are_those_of_the_answers(document: dict[str, Any]) -> None:
    """Each interface of types.ts has the fields of the schema of its name, with their types."""
    schemas = document["components"]["schemas"]
    interfaces = _INTERFACE.findall((WEB / "src" / "types.ts").read_text())
    assert len(interfaces) > 20
    wrong = []
    for name, body in interfaces:
        assert name in schemas, f"the API has no answer {name}"
        schema, lines = schemas[name], body.splitlines()
        for line in lines:
            match = _FIELD.fullmatch(line)
            assert match, f"{name}: {line}"
            field, optional, written = match.groups()
            known = schema["properties"].get(field)
            found = None if known is None else kind(known)
            if found != written or (optional and field in schema.get("required", [])):
                wrong.append(f"{name}.{field}{optional}: {written}, and the answer's is {found}")
    assert [] == wrong


def test_the_pages_ask_for_routes_that_there_are(document: dict[str, Any]) -> None:
    """Each path of the API in the sources is one of its description."""
    known = {re.sub(r"\{\w+\}", "*", path) for path in document["paths"]}
    asked = {
        re.sub(r"\$\{[^}]*\}", "*", path).rstrip("/")
        for source in SOURCES
        for path in _ROUTE.findall(source.read_text())
    }
    assert len(asked) > 5
    assert set() == {
        path for path in asked if path not in known and not path.startswith("/v1/admin/tenants/*/*")
    }


def test_the_server_serves_the_pages_that_there_are() -> None:
    """The names that the server knows are the views of the sources."""
    views = (WEB / "src" / "main.tsx").read_text().partition("const VIEWS")[2].partition("};")[0]
    assert files.NAMES == set(re.findall(r"^  (\w+): \{", views, re.MULTILINE))


def test_nothing_is_turned_into_html_or_code() -> None:
    """No source uses a sink that takes text for HTML or code."""
    forbidden = re.compile(
        r"dangerouslySetInnerHTML|innerHTML|outerHTML|insertAdjacentHTML|document\.writeln?\(|\beval\(|new Function"
    )
    assert [] == [source.name for source in SOURCES if forbidden.search(source.read_text())]
    assert "<script>" not in (WEB / "index.html").read_text()


def test_the_lock_file_names_no_host() -> None:
    """The lock file has a hash of each package, and the address of none."""
    text = (WEB / "package-lock.json").read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)


def test_the_first_page_is_small() -> None:
    """All that a browser loads at once, with gzip: of an installation that has the pages."""
    built = pages()
    html = built.document.content.decode()
    first = [name for name in built.assets if name in html]
    assert {".css", ".js"} <= {Path(name).suffix for name in first}
    assert [] == [name for name in first if name.startswith(("editor", "notebook", "arrow"))]
    size = sum(
        len(one.compressed or gzip.compress(one.content))
        for one in (built.document, *(built.assets[name] for name in first))
    )
    assert size < FIRST_LOAD_BYTES
