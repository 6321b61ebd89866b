"""The OpenAPI description of all routes, and faults that schemathesis has found."""

from __future__ import annotations

import json

import pytest
from service_kit import Running, identity

from strata.http.api.responses import ARROW_STREAM
from strata.http.formats.negotiation import MEDIA
from strata.http.routes.app import create_app


async def description(*, personal: bool = False) -> dict:
    app = create_app(personal=personal)
    async with app.app_context():
        return app.extensions["QUART_SCHEMA"].openapi_provider.schema()


def operations(document: dict) -> list[tuple[str, str, dict]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


async def test_every_reference_is_there_and_every_operation_has_its_own_name() -> None:
    """Every reference resolves and operation ids are unique, as generators of clients need."""
    document = await description()
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert sorted(set(names)) == sorted(names)


async def test_paths_name_all_of_their_parts() -> None:
    """Paths name all of their parameters, also numbers."""
    for path, _, operation in operations(await description()):
        named = [item["name"] for item in operation["parameters"] if "path" == item["in"]]
        assert named == [part[1:-1] for part in path.split("/") if part.startswith("{")]


async def test_problems_are_problems_and_results_are_arrow() -> None:
    """Each response has its content type: problem, a format of results, or JSON."""
    document = await description()
    for _, _, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and not {"StatusAnswer", "ReadyAnswer"} & set(
                json.dumps(answer).split('"')
            ):
                assert ["application/problem+json"] == list(answer["content"])
            assert answer["headers"]["X-Request-ID"]["required"]
    data = document["paths"]["/v1/artifacts/{artifact_id}/v/{version}/data"]["get"]["responses"]
    assert list(MEDIA.values()) == list(data["200"]["content"])
    assert [ARROW_STREAM] == list(data["206"]["content"])
    assert ["application/json", *MEDIA.values()] == list(
        document["paths"]["/v1/materialize"]["post"]["responses"]["200"]["content"]
    )


async def test_everything_but_health_needs_the_proxys_token() -> None:
    """In service mode every route except health needs the token; in personal mode none does."""
    document = await description()
    assert [{"proxyToken": []}] == document["security"]
    assert {"/health", "/health/ready"} == {
        path for path, _, operation in operations(document) if [] == operation.get("security")
    }
    assert "security" not in await description(personal=True)


@pytest.mark.parametrize(
    "version", ["9223372036854775808", "9" * 5000, "0", "-1", "01", "\u0661", "1.0", "+1"]
)
@pytest.mark.parametrize("tail", ["", "/data"])
async def test_a_version_that_cannot_be_is_404_and_crashes_nobody(
    server: Running, version: str, tail: str
) -> None:
    """Impossible versions are 404, and crash neither the actor nor the route."""
    async with server.client() as client:
        answer = await client.get(f"/v1/artifacts/x/v/{version}{tail}")
        after = await client.get("/v1/artifacts")
    assert (404, 200) == (answer.status_code, after.status_code)


async def test_doubled_slashes_redirect_nowhere(server: Running) -> None:
    """Double slashes do not redirect to the address in the Host header."""
    async with server.client(**identity(), Host="evil.example") as client:
        answer = await client.get("/v1//artifacts")
    assert 404 == answer.status_code
    assert "location" not in answer.headers


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
async def test_a_body_nested_too_deeply_is_422(server: Running, opening: bytes) -> None:
    """A too deeply nested body is 422, and does not crash the parser."""
    body = b'{"inputs":[],"transform":{"executor":"scan@v1","params":{"a":' + opening * 100_000
    async with server.client() as client:
        answer = await client.post(
            "/v1/materialize", content=body, headers={"Content-Type": "application/json"}
        )
    assert (422, "invalid_json") == (answer.status_code, answer.json()["error"])


async def test_what_a_request_must_have_is_marked_as_required() -> None:
    """Parameters without which a route refuses are required, and an import has its body."""
    paths = (await description())["paths"]
    assert paths["/v1/notebook-imports"]["post"]["requestBody"]["required"]
    for path, names in {
        "/v1/notebooks/{notebook}/diff": {"before", "after"},
        "/v1/tables/describe": {"uri"},
        "/v1/tables/snapshots": {"uri"},
        "/v1/tables/refs": {"uri"},
        "/v1/tables/history": {"uri"},
    }.items():
        found = {item["name"] for item in paths[path]["get"]["parameters"] if item["required"]}
        assert names == found - {"notebook"}
