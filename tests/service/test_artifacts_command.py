"""``strata artifacts``: the same commands on a running server and on the stores of one that is down."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pytest
import structlog.testing
import trio
from click.testing import CliRunner, Result
from service_kit import TOKEN, Running, Warehouse, fetch, identity, numbers, running, scan

from strata.cli import main
from strata.config import Settings

ALL = identity("ana", "team-a", "artifacts:write admin:cache")
BOSS = identity("boss", "team-a", "admin:registry")
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def configured(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a server that `strata.toml` describes, too."""
    changed = attrs.evolve(
        settings, service_writes_enabled=True, registry_protected_aliases="live", log_level="ERROR"
    )
    (tmp_path / "strata.toml").write_text(
        '[tool.strata]\ndeployment_mode = "service"\nauth_mode = "trusted_proxy"\n'
        f'proxy_token = "{TOKEN}"\nmulti_tenant_enabled = true\nrequire_tenant_header = true\n'
        f'artifact_dir = "{changed.artifact_dir}"\ncache_dir = "{changed.cache_dir}"\nlog_level = "ERROR"\n'
    )
    monkeypatch.chdir(tmp_path)
    return changed


async def run(*words: str, status: int = 0) -> Any:
    """Run a command and return its JSON, or its error."""
    call = partial(CliRunner().invoke, main, ["artifacts", *words])
    with structlog.testing.capture_logs():
        result: Result = await trio.to_thread.run_sync(call)
    assert status == result.exit_code, result.output
    return json.loads(result.stdout) if "--json" in words and status != 1 else result.output


def at(server: Running, headers: dict[str, str]) -> list[str]:
    given = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    return ["--url", server.url, *given, "--json"]


DOWN = ("--store", "--config", "strata.toml", "--tenant", "team-a", "--json")


async def test_commands_of_a_running_server_and_of_one_that_is_down(
    configured: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """Each command gives the same, whether a server runs or not; a changed blob is found and built again."""
    warehouse.create(numbers(20_000))
    async with running(configured) as server, server.client(**ALL) as client:
        await fetch(client, scan("wh:db.events", name="daily"))
        await client.post("/v1/materialize", json=scan("wh:db.events"))  # waits for the commit
        up = at(server, ALL)
        [listed] = await run("list", *up)
        uri = f"strata://artifact/{listed['artifact_id']}@v=1"
        shown = await run("show", "daily", *up)
        assert ("daily", 20_000) == (shown["held_by"][0]["name"], shown["row_count"])
        pulled = await run("pull", "daily", "-o", "up.arrow", *up)
        assert 20_000 == pa.ipc.open_stream((tmp_path / "up.arrow").read_bytes()).read_all().num_rows
        [edge] = (await run("lineage", uri, *up))["edges"]
        assert uri == edge["to_uri"]
        [entry] = await run("audit", "--name", "daily", *up)
        assert ("ana", "name_set") == (entry["actor"], entry["action"])
        assert ["whole"] == [one["status"] for one in await run("verify", *up)]
        target = {"artifact_id": listed["artifact_id"], "version": 1}
        await client.put("/v1/names/daily/aliases/live", json=target)
        waiting = await run("pending", *up)
        assert [("daily", "live", "ana")] == [
            (one["name"], one["alias"], one["requested_by"]) for one in waiting
        ]
        assert "approved" == (await run("approve", "daily", "live", *at(server, BOSS)))["status"]
        assert "in use" in await run("list", *DOWN, status=1)
        assert "No answer" in await run("list", "--url", "http://127.0.0.1:1", status=1)
        assert "404" in await run("show", "nothing", *up, status=1)

    [again] = await run("list", *DOWN)
    assert listed == again
    assert shown["content_sha256"] == (await run("show", "daily@live", *DOWN))["content_sha256"]
    assert pulled["content_sha256"] == (await run("pull", uri, "-o", "b.arrow", *DOWN))["content_sha256"]
    assert "is kept" in await run("rm", uri, *DOWN, status=1)
    assert 0 == (await run("gc", "--dry-run", *DOWN))["deleted_count"]
    assert [] == await run("pending", *DOWN)
    [blob] = Path(configured.artifact_dir).glob("blobs/*/*/*.arrow")
    blob.write_bytes(bytes(blob.stat().st_size))
    assert ["damaged"] == [one["status"] for one in await run("verify", *DOWN, status=2)]
    assert [] == await run("verify", *DOWN)
    assert ["failed"] == [one["state"] for one in await run("list", *DOWN)]
    async with running(configured) as server, server.client(**ALL) as client:
        assert 20_000 == (await fetch(client, scan("wh:db.events"))).num_rows
        await client.post("/v1/materialize", json=scan("wh:db.events"))  # waits for the commit
        assert ["whole"] == [one["status"] for one in await run("verify", *at(server, ALL))]
        gone = await run("rm", f"{listed['artifact_id']}@v=2", *at(server, ALL))
        assert ["deleted"] == [one["status"] for one in gone]


async def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A wrong directory is an error, not an empty store."""
    (tmp_path / "strata.toml").write_text(f'[tool.strata]\nartifact_dir = "{tmp_path}/none"\n')
    assert "is no directory" in await run("list", "--store", "--config", "strata.toml", status=1)
    assert not (tmp_path / "none").exists()
    assert "belong to --store" in await run("list", "--tenant", "x", status=2)
