"""The wire contract end to end: paths, field names and statuses as existing clients know them."""

import json

import pyarrow as pa
import pytest
from service_kit import ARROW, Running, Warehouse, fetch, identity, numbers, scan

MATERIALIZED = {"hit", "artifact_uri", "state", "build_spec", "build_id", "stream_id", "stream_url"}
BUILD = {
    "build_id", "artifact_id", "version", "state", "artifact_uri", "executor_ref", "progress",
    "created_at", "started_at", "completed_at", "error_message", "error_code",
}  # fmt: skip
ARTIFACT = {
    "artifact_id", "version", "state", "arrow_schema", "row_count", "byte_size", "created_at",
    "content_sha256", "provenance_hash", "transform_spec", "input_versions", "ordered",
}  # fmt: skip


async def test_a_stream_miss_then_a_hit(server: Running, warehouse: Warehouse) -> None:
    """Stream mode answers as in the contract's table: a miss, then a hit."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        miss = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        assert MATERIALIZED == set(miss)
        assert (False, "building", None) == (miss["hit"], miss["state"], miss["build_spec"])
        assert f"/v1/streams/{miss['stream_id']}" == miss["stream_url"]

        data = await client.get(miss["stream_url"])
        assert ARROW == data.headers["content-type"]
        assert ("10", miss["artifact_uri"]) == (
            data.headers["x-arrow-row-count"],
            data.headers["x-strata-artifact-uri"],
        )
        assert numbers(10)["id"] == pa.ipc.open_stream(data.content).read_all()["id"]

        hit = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        assert (True, "ready", None) == (hit["hit"], hit["state"], hit["stream_id"])
        assert miss["artifact_uri"] == hit["artifact_uri"]
        assert data.content == (await client.get(hit["stream_url"])).content


async def test_an_artifact_miss_then_a_hit(server: Running, warehouse: Warehouse) -> None:
    """Artifact mode answers as in the contract's table: pending with a build id, then ready."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        miss = (await client.post("/v1/materialize", json=scan(warehouse.uri(), mode="artifact"))).json()
        assert (False, "pending", None, None) == (
            miss["hit"],
            miss["state"],
            miss["stream_id"],
            miss["stream_url"],
        )
        build = {"state": None}
        while build["state"] not in ("ready", "failed"):
            build = (await client.get(f"/v1/artifacts/builds/{miss['build_id']}")).json()
        assert BUILD == set(build)
        assert ("ready", "scan@v1", 1.0) == (build["state"], build["executor_ref"], build["progress"])
        assert build == (await client.get(f"/v1/builds/{miss['build_id']}")).json()

        hit = (await client.post("/v1/materialize", json=scan(warehouse.uri(), mode="artifact"))).json()
        assert (True, "ready", None) == (hit["hit"], hit["state"], hit["build_id"])


async def test_one_round_trip_answers_with_the_stream_itself(server: Running, warehouse: Warehouse) -> None:
    """With `Accept: application/vnd.apache.arrow.stream` the answer is the stream."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        bodies = []
        for _ in range(2):
            answer = await client.post(
                "/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW}
            )
            assert ARROW == answer.headers["content-type"]
            bodies.append(answer.content)
    assert bodies[0] == bodies[1]
    assert 10 == pa.ipc.open_stream(bodies[0]).read_all().num_rows


async def test_refresh_builds_the_next_version_of_the_same_artifact(
    server: Running, warehouse: Warehouse
) -> None:
    """`refresh` builds the next version, which a plain request then hits."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        first = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        fresh = (await client.post("/v1/materialize", json=scan(warehouse.uri(), refresh=True))).json()
        assert first["artifact_uri"].replace("@v=1", "@v=2") == fresh["artifact_uri"]
        await client.get(fresh["stream_url"])
        again = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
    assert fresh["artifact_uri"] == again["artifact_uri"]


async def test_artifact_info_and_data(server: Running, warehouse: Warehouse) -> None:
    """A result supports validators, ranges and HEAD."""
    warehouse.create(numbers(1000))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        hit = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        url = hit["stream_url"]
        info = (await client.get(url.removesuffix("/data"))).json()
        assert ARTIFACT == set(info)
        assert ("ready", 1000) == (info["state"], info["row_count"])
        assert [warehouse.uri()] == list(json.loads(info["input_versions"]))
        assert "scan@v1" == json.loads(info["transform_spec"])["executor"]

        whole = await client.get(url)
        assert info["byte_size"] == len(whole.content) == int(whole.headers["content-length"])
        assert f'"{info["content_sha256"]}"' == whole.headers["etag"]
        assert ("bytes", "private") == (
            whole.headers["accept-ranges"],
            whole.headers["cache-control"].split(",")[0],
        )
        head = await client.head(url)
        assert (200, b"", whole.headers["content-length"]) == (
            head.status_code,
            head.content,
            head.headers["content-length"],
        )
        part = await client.get(url, headers={"Range": "bytes=10-99"})
        assert (206, whole.content[10:100]) == (part.status_code, part.content)
        assert f"bytes 10-99/{len(whole.content)}" == part.headers["content-range"]
        tail = await client.get(url, headers={"Range": "bytes=-7"})
        assert (206, whole.content[-7:]) == (tail.status_code, tail.content)
        outside = await client.get(url, headers={"Range": f"bytes={len(whole.content)}-"})
        assert 416 == outside.status_code
        same = await client.get(url, headers={"If-None-Match": whole.headers["etag"]})
        assert (304, b"") == (same.status_code, same.content)


async def test_explain_says_what_materialize_would_do(server: Running, warehouse: Warehouse) -> None:
    """Explain is right before a build, after it, and after the table has changed."""
    table = warehouse.create(numbers(10))
    uri = warehouse.uri()
    body = {"inputs": [uri], "transform": {"executor": "scan@v1", "params": {}}}
    async with server.client() as client:
        before = (await client.post("/v1/artifacts/explain-materialize", json=body)).json()
        assert (False, True, False, None) == tuple(
            before[k] for k in ("would_hit", "would_build", "is_stale", "artifact_uri")
        )
        await fetch(client, scan(uri))
        after = (await client.post("/v1/artifacts/explain-materialize", json=body)).json()
        assert (True, False, False) == tuple(after[k] for k in ("would_hit", "would_build", "is_stale"))
        assert before["resolved_input_versions"] == after["resolved_input_versions"]

        table.append(numbers(5, start=10))
        stale = (await client.post("/v1/artifacts/explain-materialize", json=body)).json()
        assert (False, True, True) == tuple(stale[k] for k in ("would_hit", "would_build", "is_stale"))
        [change] = stale["changed_inputs"]
        assert {"input_uri": uri, "old_version": after["resolved_input_versions"][uri],
                "new_version": stale["resolved_input_versions"][uri]} == change  # fmt: skip


async def test_names_point_at_results_and_may_contain_slashes(server: Running, warehouse: Warehouse) -> None:
    """A name with `/` can be read back."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri(), name="team/daily events"))
        hit = (await client.post("/v1/materialize", json=scan(warehouse.uri(), name="second"))).json()
        first = (await client.get("/v1/names/team/daily events")).json()
        assert (hit["artifact_uri"], 1) == (first["artifact_uri"], first["version"])
        names = (await client.get("/v1/names")).json()["names"]
        assert {"team/daily events", "second"} == {name["name"] for name in names}
        assert 404 == (await client.get("/v1/names/other")).status_code


async def test_lists_and_counts(server: Running, warehouse: Warehouse) -> None:
    """Listing, paging and statistics have the contract's fields."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        for column in ("id", "value", "name"):
            await fetch(client, scan(warehouse.uri(), params={"columns": [column]}))
            await client.post("/v1/materialize", json=scan(warehouse.uri(), params={"columns": [column]}))
        page = (await client.get("/v1/artifacts", params={"limit": 2})).json()
        assert (2, 3) == (len(page["artifacts"]), page["total_count"])
        stats = (await client.get("/v1/artifacts/stats")).json()
        assert (3, {"ready": 3}) == (stats["total_artifacts"], stats["by_state"])
        assert 400 == (await client.get("/v1/artifacts", params={"limit": 0})).status_code
        assert 400 == (await client.get("/v1/artifacts", params={"order": "sideways"})).status_code
        assert 400 == (await client.get("/v1/artifacts", params={"nosuch": 1})).status_code


BAD = [
    ({"inputs": ["x"], "transform": {"executor": "scan@v1"}, "more": 1}, 400, "unknown_key"),
    ({"inputs": ["x"], "transform": {"executor": "scan@v1", "parms": {}}}, 400, "unknown_key"),
    ({"inputs": "x", "transform": {"executor": "scan@v1"}}, 422, "invalid_body"),
    ({"inputs": ["x"], "transform": {"executor": "scan@v1"}, "mode": "steam"}, 400, "invalid_mode"),
    ({"inputs": ["x"], "transform": {"executor": "scan@v1"}, "name": ""}, 400, "invalid_name"),
    ({"inputs": ["x"], "transform": {"executor": "sql@v1"}}, 403, "transform_not_allowed"),
    ({"inputs": [], "transform": {"executor": "scan@v1"}}, 400, "bad_inputs"),
    ({"transform": {"executor": "scan@v1"}}, 422, "invalid_body"),
    ([], 422, "invalid_body"),
]


@pytest.mark.parametrize(("body", "status", "error"), BAD)
async def test_a_malformed_request_is_refused_where_it_is_wrong(
    server: Running, body, status: int, error: str
) -> None:
    """A misspelled mode or key is refused with its place."""
    async with server.client() as client:
        answer = await client.post("/v1/materialize", json=body)
    assert (status, error) == (answer.status_code, answer.json().get("error"))
    assert "application/problem+json" == answer.headers["content-type"]
    assert {"type", "title", "status", "detail", "request_id"} <= set(answer.json())


async def test_values_are_never_echoed_back(server: Running) -> None:
    """Neither a 422 nor a 400 repeats a value of the request."""
    async with server.client() as client:
        for body in (b'{"inputs": ["s3cr3t"', b'{"inputs": [17, "s3cr3t"], "transform": "s3cr3t"}'):
            answer = await client.post(
                "/v1/materialize", content=body, headers={"Content-Type": "application/json"}
            )
            assert 422 == answer.status_code
            assert "s3cr3t" not in answer.text


PARAMS = [
    {"columns": ["nope"]}, {"columns": ["id", "id"]}, {"column": ["id"]}, {"columns": "id"},
    {"filters": [{"column": "nope", "op": "=", "value": 1}]},
    {"filters": [{"column": "id", "op": "~", "value": 1}]},
    {"filters": [{"column": "id", "op": "=", "value": "x"}]},
    {"filters": [{"column": "id", "op": "="}]},
    {"filters": [{"column": "id", "op": "=", "value": {"a": 1}}]},
    {"filters": [{"column": "id", "op": "in", "value": 5}]},
    {"filters": [{"column": "id", "op": "=", "value": 1, "x": 1}]},
    {"filters": {"id": 1}}, {"snapshot_id": "x"}, {"filters": [{"column": "id", "op": "=", "value": "__date__:x"}]},
]  # fmt: skip


@pytest.mark.parametrize("params", PARAMS, ids=json.dumps)
async def test_bad_scan_parameters_are_400_and_never_500(
    server: Running, warehouse: Warehouse, params: dict
) -> None:
    """Malformed filter values and unknown columns are 400."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        answer = await client.post("/v1/materialize", json=scan(warehouse.uri(), params=params))
    assert 400 == answer.status_code, answer.text


async def test_what_is_not_there_is_404(server: Running, warehouse: Warehouse, tmp_path) -> None:
    """Missing tables, warehouses, snapshots, artifacts, builds, streams, names and paths are 404."""
    warehouse.create(numbers(1))
    async with server.client() as client:
        for uri in (
            warehouse.uri("db.nope"),
            warehouse.uri("nope.events"),
            f"file://{tmp_path}#db.events",
            "x:db.t",
        ):
            answer = await client.post("/v1/materialize", json=scan(uri))
            assert (404, "Table not found") == (answer.status_code, answer.json()["detail"]), uri
        gone = await client.post("/v1/materialize", json=scan(warehouse.uri(), params={"snapshot_id": 1}))
        assert 404 == gone.status_code
        for path in (
            "/v1/artifacts/x/v/1",
            "/v1/artifacts/x/v/1/data",
            "/v1/builds/x",
            "/v1/streams/x",
            "/v1/names/x",
            "/x",
        ):
            assert 404 == (await client.get(path)).status_code, path
        assert 405 == (await client.put("/v1/materialize")).status_code


async def test_direct_writes_are_disabled_in_service_mode(server: Running) -> None:
    """Routes for direct writes are refused in service mode."""
    async with server.client(**identity(scopes="admin:*")) as client:
        for method, path in (("PUT", "/v1/artifacts"), ("POST", "/v1/names"), ("DELETE", "/v1/names/a/b"),
                             ("DELETE", "/v1/artifacts/x/v/1"), ("PUT", "/v1/names/a/aliases/b")):  # fmt: skip
            answer = await client.request(method, path)
            assert (403, "writes_disabled") == (answer.status_code, answer.json()["error"]), path


async def test_the_cache_is_an_operators_business(server: Running, warehouse: Warehouse) -> None:
    """The cache's statistics and its clearing need `admin:cache`."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        assert 403 == (await client.get("/v1/cache/stats")).status_code
        assert 403 == (await client.post("/v1/cache/clear")).status_code
    async with server.client(**identity("root", scopes="admin:cache")) as admin:
        await admin.post("/v1/materialize", json=scan(warehouse.uri()))  # waits for the commit
        await admin.get("/v1/cache/stats")
        assert {"status": "cleared"} == (await admin.post("/v1/cache/clear")).json()
        assert 0 == (await admin.get("/v1/cache/stats")).json()["size_bytes"]


async def test_openapi_and_docs_come_from_our_own_origin(server: Running) -> None:
    """The documentation page loads nothing from another host."""
    async with server.client() as client:
        document = (await client.get("/openapi.json")).json()
        page = (await client.get("/docs")).text
    assert document["openapi"].startswith("3.1")
    assert "/v1/materialize" in document["paths"]
    assert "http://" not in page.replace(server.url, "")
    assert "https://" not in page
    assert "/v1/streams/{stream_id}" in page


async def test_health_needs_no_identity_and_metrics_need_a_scope(
    server: Running, warehouse: Warehouse
) -> None:
    """Health is public; metrics need `admin:metrics`."""
    warehouse.create(numbers(1))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        assert 403 == (await client.get("/metrics")).status_code
    async with server.client(Accept="text/plain") as nobody:
        assert {"status": "healthy"} == (await nobody.get("/health")).json()
        assert 200 == (await nobody.get("/health/ready")).status_code
        assert 401 == (await nobody.get("/metrics")).status_code
    async with server.client(**identity("root", scopes="admin:metrics")) as admin:
        text = (await admin.get("/metrics/prometheus")).text
    assert 'strata_slots{tenant="team-a",tier="bulk"} 8' in text
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
