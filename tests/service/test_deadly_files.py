"""A damaged file of one tenant ends nothing: not the server, not its actor, not another tenant's stream."""

import random
import struct
from pathlib import Path

import httpx
import pyarrow as pa
from service_kit import ARROW, Warehouse, environment, identity, numbers, process, scan

from strata.config import Settings
from strata.tables.files.footer_check import DeadlyFooterError, FooterCheck
from strata.tables.files.footers import read_tail

DEADLY = 3
"""Damaged footers to serve that would end a process."""


def damaged(data: bytes, seed: int) -> bytes:
    """Return a Parquet file with one changed byte in its footer."""
    drawn = random.Random(seed)
    length = struct.unpack("<I", data[-8:-4])[0]
    changed = bytearray(data)
    changed[len(data) - 8 - drawn.randrange(1, length)] = drawn.randrange(256)
    return bytes(changed)


def deadly(data: bytes) -> list[bytes]:
    """Return damaged files that end the process which reads their footers."""
    check, found = FooterCheck(), []
    for seed in range(5000):
        changed = damaged(data, seed)
        try:
            with check.checking(read_tail(pa.BufferReader(changed))):
                pass
        except DeadlyFooterError:
            found.append(changed)
        except ValueError:  # not even a footer
            continue
        if len(found) == DEADLY:
            break
    check.close()
    return found


def read(client: httpx.Client, body: dict, headers: dict[str, str]) -> httpx.Response:
    made = client.post("/v1/materialize", json=body, headers=headers)
    return client.get(made.json()["stream_url"], headers=headers) if made.is_success else made


def test_damaged_footers_and_manifests_end_no_server(
    tmp_path: Path, settings: Settings, warehouse: Warehouse
) -> None:
    """Each is refused by its name; meanwhile another tenant reads a result, and reads on."""
    tables = [warehouse.create(numbers(2000), f"db.t{number}") for number in range(DEADLY)]
    warehouse.create(numbers(200_000), "db.other")
    cut = warehouse.create(numbers(10), "db.cut")
    files = [next(Path(one.location().removeprefix("file://")).rglob("*.parquet")) for one in tables]
    with (
        process(tmp_path, **environment(settings)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        mine, theirs = identity("ana", "team-a"), identity("bob", "team-b")
        answer = client.post("/v1/materialize", json=scan(warehouse.uri("db.other")), headers=theirs).json()
        with client.stream("GET", answer["stream_url"], headers=theirs) as stream:
            chunks = stream.iter_raw(65536)
            received = [next(chunks)]
            refused = []
            for number, (data, changed) in enumerate(zip(files, deadly(files[0].read_bytes()), strict=True)):
                data.unlink()
                data.write_bytes(changed)
                refused.append(read(client, scan(warehouse.uri(f"db.t{number}")), mine))
            [manifest] = Path(cut.location().removeprefix("file://")).rglob("*-m0.avro")
            manifest.write_bytes(manifest.read_bytes()[:-40])
            refused.append(read(client, scan(warehouse.uri("db.cut")), mine))
            names = [*(data.name for data in files), manifest.name]
            received += chunks
        assert 200_000 == pa.ipc.open_stream(b"".join(received)).read_all().num_rows
        assert ARROW == stream.headers["content-type"]
        assert [500] * (DEADLY + 1) == [answer.status_code for answer in refused]
        assert [] == [name for name, answer in zip(names, refused, strict=True) if name not in answer.text]
        assert server.popen.poll() is None
        log = server.log.read_text()
        # A reader touches the columns that it reads only: it may pass over some of the damage.
        assert 2 <= log.count("reader_died") <= 2 * DEADLY
        assert "tenant crashed" not in log
