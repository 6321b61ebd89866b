"""Results in other formats over HTTP: exact, streamed, within the tenant's memory and the caller's rights."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import attrs
import httpx
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
import trio
from service_kit import ARROW, Running, Warehouse, identity, numbers, running, scan

from strata.config import Settings
from strata.http.formats import conversion

PARQUET, CSV, LINES = "application/vnd.apache.parquet", "text/csv", "application/x-ndjson"
ROWS = 5000


def read(answer: httpx.Response) -> pa.Table:
    """Read an answer by its content type."""
    assert 200 == answer.status_code, answer.text
    media = answer.headers["Content-Type"].partition(";")[0]
    if media == ARROW:
        return pa.ipc.open_stream(answer.content).read_all()
    if media == PARQUET:
        return pq.read_table(io.BytesIO(answer.content))
    if media == CSV:
        return pcsv.read_csv(io.BytesIO(answer.content))
    assert LINES == media
    return pa.Table.from_pylist([json.loads(line) for line in answer.content.splitlines()])


async def made(client: httpx.AsyncClient, warehouse: Warehouse, **params: Any) -> str:
    """Build a result; returns the path of its bytes."""
    answer = await client.post("/v1/materialize", json=scan(warehouse.uri(), params=params))
    (await client.get(answer.json()["stream_url"])).raise_for_status()
    again = await client.post("/v1/materialize", json=scan(warehouse.uri(), params=params))
    return again.json()["stream_url"]


@pytest.mark.parametrize(
    ("accept", "query", "media"),
    [
        (None, {}, ARROW),
        ("*/*", {}, ARROW),
        ("text/html, */*;q=0.8", {}, ARROW),
        (PARQUET, {}, PARQUET),
        ("application/parquet", {}, PARQUET),
        (CSV, {}, CSV),
        ("text/csv;q=0.5, application/x-ndjson", {}, LINES),
        ("application/jsonl, text/csv;q=0.5", {}, LINES),
        ("text/csv;q=0.1, */*", {}, ARROW),
        (f"{ARROW};q=0.9, text/csv;q=0.5", {}, ARROW),
        (CSV, {"format": "parquet"}, PARQUET),
        (None, {"format": "csv"}, CSV),
        (None, {"format": "jsonl"}, LINES),
        (None, {"codecs": "zstd"}, f"{ARROW}; codecs=zstd"),
        (None, {"codecs": "lz4"}, f"{ARROW}; codecs=lz4"),
        (f'{ARROW}; codecs="lz4, zstd"', {}, f"{ARROW}; codecs=zstd"),
        (f"{ARROW};codecs=lz4", {}, f"{ARROW}; codecs=lz4"),
        (f"{ARROW};codecs=brotli", {}, ARROW),
    ],
)
async def test_the_same_rows_in_the_form_asked_for(
    server: Running, warehouse: Warehouse, accept: str | None, query: dict, media: str
) -> None:
    """Accept or a parameter choose; each form has the same rows, their number, and a validator of its own."""
    rows = numbers(ROWS)
    warehouse.create(rows)
    async with server.client() as client:
        path = await made(client, warehouse)
        headers = {} if accept is None else {"Accept": accept}
        answer = await client.get(path, params=query, headers=headers)
        found = answer.headers
        assert media == found["Content-Type"].replace("; charset=utf-8; header=present", "")
        assert rows.to_pylist() == read(answer).to_pylist()
        assert (str(ROWS), "Accept") == (found["X-Arrow-Row-Count"], found["Vary"])
        known = await client.get(path, params=query, headers=headers | {"If-None-Match": found["ETag"]})
        assert (304, b"") == (known.status_code, known.content)
        head = await client.head(path, params=query, headers=headers)
        assert (200, b"", found["Content-Type"]) == (
            head.status_code,
            head.content,
            head.headers["Content-Type"],
        )


async def test_validators_of_forms_differ(server: Running, warehouse: Warehouse) -> None:
    """A cache never answers one form with another's bytes."""
    warehouse.create(numbers(10))
    forms: list[dict] = [{}, {"format": "csv"}, {"format": "jsonl"}, {"format": "parquet"}]
    forms += [{"codecs": "zstd"}, {"codecs": "lz4"}, {"limit": 5}, {"format": "csv", "limit": 5}]
    async with server.client() as client:
        path = await made(client, warehouse)
        tags = [(await client.get(path, params=form)).headers["ETag"] for form in forms]
        assert len(forms) == len(set(tags))
        other = await client.get(path, params={"format": "csv"}, headers={"If-None-Match": tags[0]})
        assert 200 == other.status_code


@pytest.mark.parametrize("limit", [0, 1, 4999, 5000, 5001])
@pytest.mark.parametrize("form", ["arrow", "parquet", "csv", "jsonl"])
async def test_limit_is_the_first_rows(server: Running, warehouse: Warehouse, form: str, limit: int) -> None:
    """Exactly as many, and their number is told before they come."""
    rows = numbers(ROWS)
    warehouse.create(rows)
    async with server.client() as client:
        answer = await client.get(await made(client, warehouse), params={"format": form, "limit": limit})
    assert rows.slice(0, limit).to_pylist() == read(answer).to_pylist()
    assert str(min(limit, ROWS)) == answer.headers["X-Arrow-Row-Count"]


@pytest.mark.parametrize("media", [ARROW, PARQUET, CSV, LINES])
async def test_materialize_answers_in_the_form(server: Running, warehouse: Warehouse, media: str) -> None:
    """One round trip, for a result that is being built and for a finished one."""
    rows = numbers(ROWS)
    warehouse.create(rows)
    async with server.client() as client:
        for _ in range(2):
            answer = await client.post(
                "/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": media}
            )
            assert rows.to_pylist() == read(answer).to_pylist()
        usual = await client.post("/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": "*/*"})
        assert usual.json()["hit"]


async def test_a_promised_stream_in_another_form(server: Running, warehouse: Warehouse) -> None:
    """The stream of a running build is converted as it grows."""
    rows = numbers(ROWS)
    warehouse.create(rows)
    async with server.client() as client:
        promised = await client.post("/v1/materialize", json=scan(warehouse.uri()))
        answer = await client.get(promised.json()["stream_url"], params={"format": "jsonl"})
        assert rows.to_pylist() == read(answer).to_pylist()


async def test_a_download_has_a_name(server: Running, warehouse: Warehouse) -> None:
    """Browsers keep it as a file, with the ending of its form."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        path = await made(client, warehouse)
        artifact = path.split("/")[3]
        for form, ending in (("arrow", "arrows"), ("csv", "csv"), ("parquet", "parquet"), ("jsonl", "jsonl")):
            answer = await client.get(path, params={"format": form, "download": "true"})
            expected = f'attachment; filename="{artifact}-v1.{ending}"'
            assert expected == answer.headers["Content-Disposition"]


@pytest.mark.parametrize(
    "query",
    [
        "format=xml",
        "format=",
        "codecs=gzip",
        "codecs=zstd&format=csv",
        "limit=-1",
        "limit=1e3",
        f"limit={'9' * 30}",
        "download=yes",
        "formats=csv",
        "format=csv&format=csv",
    ],
)
async def test_what_is_not_understood_is_refused(server: Running, warehouse: Warehouse, query: str) -> None:
    """400, naming the parameter."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        answer = await client.get(f"{await made(client, warehouse)}?{query}")
    assert (400, "bad_parameter") == (answer.status_code, answer.json()["error"])


async def test_what_a_form_cannot_hold_is_406(server: Running, warehouse: Warehouse) -> None:
    """Before a byte is sent; the caller is told why, and Arrow is still there."""
    warehouse.create(pa.table({"only": pa.array(["x", None])}))
    async with server.client() as client:
        path = await made(client, warehouse)
        answer = await client.get(path, params={"format": "csv"})
        assert (406, "format_unsupported") == (answer.status_code, answer.json()["error"])
        assert "alone in its line" in answer.json()["detail"]
        assert 2 == read(await client.get(path)).num_rows


async def test_what_a_form_cannot_hold_later_on_tears_the_answer(
    server: Running, warehouse: Warehouse
) -> None:
    """A reader never takes the rows before it for all of them."""
    late = pa.table({"only": pa.array(["x"] * 400_000 + [None])})
    warehouse.create(late)
    async with server.client() as client:
        path = await made(client, warehouse)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(path, params={"format": "csv"})


async def test_answers_say_how_long_they_took_and_refusals_do_not(
    server: Running, warehouse: Warehouse
) -> None:
    """Server-Timing has the wait for admission and the work; the time of a refusal might tell its cause."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        path = await made(client, warehouse)
        for form in ("arrow", "csv"):
            found = (await client.get(path, params={"format": form})).headers["Server-Timing"]
            assert re.fullmatch(r"queue;dur=\d+, app;dur=\d+", found)
        for refused in (await client.get("/v1/artifacts/none/v/1/data"), await client.get("/v1/none")):
            assert 404 == refused.status_code
            assert "Server-Timing" not in refused.headers


async def test_other_tenants_have_no_form_of_it(server: Running, warehouse: Warehouse) -> None:
    """Another tenant's result is missing in every form, as in Arrow."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        path = await made(client, warehouse)
    async with server.client(**identity("bob", "team-b")) as other:
        missing = await other.get(path)
        for form in ("parquet", "csv", "jsonl"):
            answer = await other.get(path, params={"format": form})
            assert (404, missing.json()["detail"]) == (answer.status_code, answer.json()["detail"])


async def test_memory_is_reserved_and_given_back(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversion without memory is 503 with Retry-After; afterwards nothing is held."""
    warehouse.create(numbers(ROWS))
    monkeypatch.setattr(conversion, "MEMORY_SECONDS", 0.01)
    async with running(settings) as server, server.client() as client:
        path = await made(client, warehouse)
        memory = server.service.registry.resources.memory
        before = memory.used
        lease = memory.queue("team-b", memory.total - before)
        assert lease.held
        refused = await client.get(path, params={"format": "csv"})
        assert 503 == refused.status_code
        assert int(refused.headers["Retry-After"]) >= 1
        lease.release()
        assert ROWS == read(await client.get(path, params={"format": "csv"})).num_rows
        assert before == memory.used


async def test_a_client_that_leaves_gives_everything_back(settings: Settings, warehouse: Warehouse) -> None:
    """No memory and no descriptor stay behind an answer that was not read to its end."""
    warehouse.create(numbers(400_000))
    async with running(settings) as server, server.client() as client:
        path = await made(client, warehouse)
        memory = server.service.registry.resources.memory
        before = memory.used
        async with client.stream("GET", path, params={"format": "jsonl"}) as answer:
            await anext(answer.aiter_raw())
            assert memory.used > before
        with trio.fail_after(30):
            while memory.used > before:  # noqa: ASYNC110  # the server tells no one of it
                await trio.sleep(0.01)


async def test_the_loop_goes_on_while_rows_are_converted(settings: Settings, warehouse: Warehouse) -> None:
    """Wide rows with lists in all forms; the suite fails a test in which the loop is held for 50 ms."""
    count = 40_000
    rows = numbers(count).append_column("l", pa.array([list(range(20))] * count))
    warehouse.create(rows)
    async with running(attrs.evolve(settings, log_level="WARNING")) as server, server.client() as client:
        path = await made(client, warehouse)
        async with trio.open_nursery() as nursery:
            for form in ("jsonl", "csv", "parquet"):
                nursery.start_soon(_counted, client, path, form, count)


async def _counted(client: httpx.AsyncClient, path: str, form: str, count: int) -> None:
    assert count == read(await client.get(path, params={"format": form})).num_rows
