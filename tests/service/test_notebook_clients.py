"""``strata notebook`` with a server, and the client's methods about notebooks, blocking and awaited."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pytest
import structlog.testing
import trio
from click.testing import CliRunner, Result
from ipynb_cases import code, notebook, text
from service_kit import Running, identity, running

from strata.acl import Policy
from strata.cli import main
from strata.client import AsyncStrataClient, StrataClient, StrataError, WaitTimeoutError
from strata.config import Settings
from strata.config.fields import NotebookWorker

ANA = identity("ana", "team-a", "notebook:* admin:workers")
Run = Callable[..., Any]


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Running]:
    worker = NotebookWorker("local", memory_bytes=256 << 20)
    whole = attrs.evolve(settings, acl_config=Policy(default="allow"), notebook_workers=(worker,))
    with structlog.testing.capture_logs():  # the server logs in this process
        async with running(whole) as found:
            yield found


@pytest.fixture
def run(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs ``strata notebook``, or another group, as ana."""
    monkeypatch.setenv("STRATA_CLIENT_URL", server.url)
    monkeypatch.setenv("STRATA_CLIENT_HEADERS", "\n".join(f"{name}: {value}" for name, value in ANA.items()))
    monkeypatch.chdir(tmp_path)

    async def call(*words: str, status: int = 0, group: str = "notebook") -> Result:
        invoke = partial(CliRunner().invoke, main, [group, *words])
        done = await trio.to_thread.run_sync(invoke)
        assert status == done.exit_code, (done.output, done.exception)
        return done

    return call


@pytest.fixture(params=["blocking", "awaited"])
async def call(request: pytest.FixtureRequest, server: Running) -> AsyncIterator[Run]:
    """Return a function that calls a method of either client."""
    if request.param == "awaited":
        async with AsyncStrataClient(server.url, headers=ANA) as client:

            async def awaited(method: str, *args: object, **options: object) -> Any:
                return await getattr(client, method)(*args, **options)

            yield awaited
        return
    with StrataClient(server.url, headers=ANA) as blocking:

        async def threaded(method: str, *args: object, **options: object) -> Any:
            return await trio.to_thread.run_sync(partial(getattr(blocking, method), *args, **options))

        yield threaded


async def test_a_notebook_is_made_edited_run_and_read(call: Run) -> None:
    """Each method says what the server says; a run waits for its cells, and for those that they need."""
    cells = [{"id": "a", "source": "x = 20"}, {"id": "b", "source": "y = [x + 1]\nprint(y)\ny"}]
    made = await call("create_notebook", "Flights", cells)
    assert [made.name] == [one.name for one in await call("notebooks")]
    done = await call("run_notebook", made.name, ["b"])
    assert (True, [("a", "ok"), ("b", "ok")]) == (done.ok, [(one.cell, one.how) for one in done.ended])
    assert "[21]\n" == done.session.cells[1].result.stdout
    assert [21] == await call("notebook_value", made.name, "b", "y")
    assert "[21]" == await call("notebook_display", made.name, "b")
    edit = {"op": "replace", "id": "a", "source": "x = 1 / 0"}
    changed = await call("edit_notebook", made.name, made.revision, [edit])
    assert (2, "x = 20") == (
        changed.revision,
        (await call("notebook", made.name, revision=1)).cells[0].source,
    )
    assert "stale" not in {cell.status for cell in (await call("notebook_session", made.name)).cells}
    done = await call("run_notebook", made.name)
    assert (False, ["raised", "skipped"]) == (done.ok, [one.how for one in done.ended])
    assert "ZeroDivisionError" in done.ended[0].message
    assert "x = 1 / 0" in await call("export_notebook", made.name, "script")
    with pytest.raises(StrataError, match="409"):
        await call("edit_notebook", made.name, 1, [edit])
    await call("delete_notebook", made.name)
    with pytest.raises(StrataError, match="404"):
        await call("notebook", made.name)


async def test_a_table_comes_as_one_and_a_long_run_can_be_interrupted(call: Run) -> None:
    """Arrow stays Arrow; who waits no longer than some seconds is told what still runs."""
    cells = ["import pyarrow as pa\nt = pa.table({'n': [1, 2]})", "import time\ntime.sleep(300)"]
    made = await call("create_notebook", "T", cells)
    first, second = (cell.id for cell in made.cells)
    assert (await call("run_notebook", made.name, [first])).ok
    assert pa.table({"n": [1, 2]}).equals(await call("notebook_value", made.name, first, "t"))
    with pytest.raises(WaitTimeoutError, match=second):
        await call("run_notebook", made.name, [second], timeout=0.2)
    await call("interrupt_notebook", made.name)


async def test_a_whole_notebook_runs_and_is_scheduled(call: Run) -> None:
    """A run needs no client that waits; it is waited for, listed and cancelled; schedules come and go."""
    tagged = {"id": "p", "source": "n = 1", "metadata": {"tags": ["parameters"]}}
    made = await call("create_notebook", "R", [tagged, {"id": "c", "source": "print(n + 1)"}])
    begun = await call("start_notebook_run", made.name, parameters={"n": 41})
    done = await call("wait_for_notebook_run", made.name, begun.run)
    assert (True, {"n": 41}, "42\n") == (done.ok, done.parameters, done.cells[-1].stdout)
    assert [begun.run] == [one.run for one in await call("notebook_runs", made.name)]
    edit = {"op": "replace", "id": "c", "source": "import time\ntime.sleep(300)"}
    await call("edit_notebook", made.name, made.revision, [edit])
    long = await call("start_notebook_run", made.name)
    with pytest.raises(WaitTimeoutError, match=long.run):
        await call("wait_for_notebook_run", made.name, long.run, timeout=0)
    await call("cancel_notebook_run", made.name, long.run)
    assert "cancelled" == (await call("wait_for_notebook_run", made.name, long.run)).state
    assert [long.run] == [one.run for one in await call("notebook_runs", made.name, limit=1)]
    planned = await call("schedule_notebook", made.name, "0 7 * * *", time_zone="Europe/Berlin", retries=2)
    assert ("Europe/Berlin", 2) == (planned.time_zone, planned.retries)
    assert [planned] == list(await call("notebook_schedules", made.name))
    await call("unschedule_notebook", made.name, planned.schedule)
    assert [] == list(await call("notebook_schedules", made.name))
    with pytest.raises(StrataError, match="422"):
        await call("schedule_notebook", made.name, "never")


async def test_workers_are_listed_and_switched(call: Run) -> None:
    """A caller's workers, and the catalogue with its switches and allowances."""
    assert [("local", True)] == [(one.name, one.available) for one in await call("notebook_workers")]
    assert ["healthy"] == [one.health for one in await call("worker_catalogue", refresh=True)]
    for state in ("draining", "disabled", "enabled"):
        assert [state] == [one.state for one in await call("switch_worker", "local", state)]
    assert {"team-a": 1} == (await call("allow_worker", "local", "team-a", 1))[0].allowances
    assert {} == (await call("allow_worker", "local", "team-a", None))[0].allowances
    with pytest.raises(StrataError, match="404"):
        await call("switch_worker", "none", "draining")
    with pytest.raises(ValueError, match="no state"):
        await call("switch_worker", "local", "on")


async def test_workers_by_command(run: Run) -> None:
    """``strata workers`` shows and switches the same, as a table and as JSON."""
    listed = await run("list", "--refresh", group="workers")
    assert "local\tlocal\tenabled\thealthy\t0/4" in listed.stdout
    assert "draining" in (await run("drain", "local", group="workers")).stdout
    assert "disabled" in (await run("disable", "local", group="workers")).stdout
    assert "team-a: 0" in (await run("allow", "local", "team-a", "0", group="workers")).stdout
    await run("allow", "local", "team-a", group="workers")
    found = json.loads((await run("enable", "local", "--json", group="workers")).stdout)
    assert [("enabled", {})] == [(one["state"], one["allowances"]) for one in found]
    await run("enable", "none", status=1, group="workers")


async def test_a_file_is_imported_by_its_bytes(call: Run) -> None:
    """The answer has the notebook, and what was not kept."""
    data = json.dumps(notebook(text("# T", id_="t"), code("x = 1", id_="a", outputs=1))).encode()
    found = await call("import_notebook", data, title="Mine")
    assert ("Mine", ["t", "a"]) == (found.notebook.title, [cell.id for cell in found.notebook.cells])
    assert ["outputs_dropped"] == [line["code"] for line in found.import_report]


async def test_notebooks_of_a_server_by_command(run: Run, tmp_path: Path) -> None:
    """The commands of files do the same with ``--server``, as texts and as JSON."""
    made = json.loads((await run("new", "Sales of 2013", "--server", "--json")).stdout)
    assert (await run("new", "Other", "--server")).stdout.startswith("other-")
    listed = json.loads((await run("list", "--server", "--json")).stdout)
    assert ["Other", "Sales of 2013"] == sorted(one["title"] for one in listed)
    assert made["name"] in (await run("list", "--server")).stdout
    file = tmp_path / "flights.ipynb"
    file.write_text(json.dumps(notebook(code("x = 1", id_="a"), code("y = (", id_="b"))))
    name = (await run("import", "flights.ipynb", "--server")).stdout.strip()
    shown = await run("show", name, "--server", status=2)
    assert "a\tpython\t\tstale: never run" in shown.stdout
    both = json.loads((await run("show", name, "--server", "--json", status=2)).stdout)
    assert {"notebook", "session"} == both.keys()
    assert "x = 1" in (await run("export", name, "--to", "script", "--server")).stdout
    await run("export", name, "--to", "ipynb", "--server", "--out", "out.ipynb")
    assert ["a", "b"] == [cell["id"] for cell in json.loads((tmp_path / "out.ipynb").read_text())["cells"]]
    await run("export", name, "--to", "directory", "--server", status=2)
    await run("show", "nowhere", "--server", status=1)
    assert "--server" in (await run("show", "nowhere", status=1)).stderr


async def test_a_run_prints_how_each_cell_ended(run: Run, tmp_path: Path) -> None:
    """A file is run as a notebook that is gone afterwards; a cell that fails is exit status 2."""
    file = tmp_path / "flights.ipynb"
    file.write_text(json.dumps(notebook(code("x = 2\nprint('two')", id_="a"), code("x + 1", id_="b"))))
    done = await run("run", "flights.ipynb")
    assert "a: ok\n  two\nb: ok\n  3\n" == done.stdout
    assert [] == json.loads((await run("list", "--server", "--json")).stdout)
    name = (await run("import", "flights.ipynb", "--server")).stdout.strip()
    found = json.loads((await run("run", name, "--json")).stdout)
    assert (True, ["ok", "ok"]) == (found["ok"], [one["how"] for one in found["ended"]])
    assert "b: reused" in (await run("run", name, "--cell", "b")).stdout
    assert "b: ok" in (await run("run", name, "--cell", "b", "--force")).stdout
    file.write_text(json.dumps(notebook(code("1 / 0", id_="a"))))
    done = await run("run", "flights.ipynb", "--keep", status=2)
    assert "a: raised. ZeroDivisionError" in done.stdout
    assert 2 == len(json.loads((await run("list", "--server", "--json")).stdout))
    await run("run", "nowhere", status=1)
