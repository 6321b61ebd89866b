"""The commands of the page "Back up and restore", on the store of a server that runs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
import trio
from click.testing import CliRunner
from programs import need
from service_kit import Warehouse, fetch, numbers, running, scan

from strata.cli.main import main
from strata.config import Settings

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "back-up-and-restore.md"
BACK_UP, RESTORE = re.findall(r"test_backup\.py -->\n```\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(autouse=True)
def shell() -> None:
    """The page's commands are of bash."""
    need("bash")


def run(script: str, store: Path, backup: Path) -> None:
    environ = os.environ | {"STORE": str(store), "BACKUP": str(backup)}
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=environ, check=True, timeout=60)


async def test_a_store_is_backed_up_while_it_runs_and_restored(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """Names and results are back, later ones are not; every result has its hash."""
    warehouse.create(numbers(1000))
    store, backup = settings.artifact_root, tmp_path / "backup"
    kept, later = scan(warehouse.uri(), name="daily"), scan(warehouse.uri(), params={"columns": ["id"]})
    async with running(settings) as server, server.client() as client:
        first = await fetch(client, kept)
        while not (await client.get("/v1/names")).json()["names"]:  # set as the result is committed
            pass
        await trio.to_thread.run_sync(run, BACK_UP, store, backup)
        await fetch(client, later)
    assert not (backup / "blobs" / "growing").exists()
    shutil.rmtree(store)
    await trio.to_thread.run_sync(run, RESTORE, store, backup)

    async with running(settings) as server, server.client() as client:
        answer = (await client.post("/v1/materialize", json=kept)).json()
        assert answer["hit"]
        data = await client.get(answer["stream_url"])
        assert first.equals(pa.ipc.open_stream(data.content).read_all())
        assert ["daily"] == [one["name"] for one in (await client.get("/v1/names")).json()["names"]]
        assert not (await client.post("/v1/materialize", json=later)).json()["hit"]


async def test_what_a_backup_lacks_is_found_and_built_again(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """A result that was removed during the backup has its row there, and no bytes."""
    warehouse.create(numbers(1000))
    store, backup = settings.artifact_root, tmp_path / "backup"
    async with running(settings) as server, server.client() as client:
        first = await fetch(client, scan(warehouse.uri()))
        while not (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]:
            pass
        await trio.to_thread.run_sync(run, BACK_UP, store, backup)
    [blob] = (backup / "blobs").rglob("*.arrow")
    blob.unlink()
    await trio.to_thread.run_sync(run, RESTORE, store, backup)

    async with running(settings) as server, server.client() as client:
        assert not (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]
        assert first.equals(await fetch(client, scan(warehouse.uri())))


def test_the_commands_that_the_page_names_exist() -> None:
    """`strata artifacts verify` takes the options that are shown."""
    shown = CliRunner().invoke(main, ["artifacts", "verify", "--help"]).output

    assert "--store" in shown
    assert "--config" in shown
