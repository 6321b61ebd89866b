"""A disk that hangs, by a real file system that gives no answer: it costs its own requests and nothing else."""

import time
from pathlib import Path

import httpx
import pytest
from hung_files import LOOKUP, OPEN, READ, hung_files, refused
from service_kit import Warehouse, environment, identity, numbers, process, scan

from strata.config import Settings

A, B = identity("ana", "team-a"), identity("bob", "team-b")

pytestmark = pytest.mark.skipif(refused() is not None, reason=str(refused()))


def read(client: httpx.Client, body: dict, headers: dict[str, str]) -> httpx.Response:
    made = client.post("/v1/materialize", json=body, headers=headers)
    return client.get(made.json()["stream_url"], headers=headers) if made.is_success else made


def where(uri: str, number: int) -> dict:
    """Return a request for the rows from a number on, which is another result for each."""
    return scan(uri, params={"filters": [{"column": "id", "op": ">=", "value": number}]})


@pytest.mark.parametrize("kind", [READ, OPEN, LOOKUP], ids=["read", "open", "lookup"])
def test_a_disk_that_hangs_costs_its_own_requests(
    tmp_path: Path, settings: Settings, warehouse: Warehouse, kind: int
) -> None:
    """A's requests end at their deadline, by name; B is served all the while; the server ends in its grace."""
    hung = warehouse.create(numbers(1000), "db.hung")
    warehouse.create(numbers(1000), "db.other")
    [data] = Path(hung.location().removeprefix("file://")).rglob("data")
    more = {"STRATA_FETCH_TIMEOUT_SECONDS": "2", "STRATA_SHUTDOWN_GRACE_SECONDS": "5"}
    with hung_files(data) as disk, process(tmp_path, **environment(settings), **more) as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while read(client, where(warehouse.uri("db.other"), 999), A).status_code == 504:
                pass  # the first reader is still on its way
            disk.hang.add(kind)
            answers = [read(client, where(warehouse.uri("db.hung"), n), A) for n in (1, 2, 3)]
            assert [504] * 3 == [answer.status_code for answer in answers], answers[0].text
            assert disk.asked.is_set()
            assert "fetch_timeout_seconds" in answers[0].text
            for number in range(20):
                body = where(warehouse.uri("db.other"), number)
                assert 200 == read(client, body, B).status_code
                assert 200 == client.get("/health/ready").status_code
        began = time.monotonic()
        server.popen.terminate()
        assert 0 == server.popen.wait(30)
        assert time.monotonic() - began < 10
