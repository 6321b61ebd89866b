"""What a cell sends on its only link gains nothing: whatever it claims, its runner's rights count."""

from __future__ import annotations

import json

import attrs
import httpx
import trio
from service_kit import Warehouse, identity, numbers, running
from socket_kit import socket

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.config.fields import NotebookWorker

ALL = "notebook:read notebook:write notebook:execute"
ANA = identity("ana", "team-a", ALL)
BEN = identity("ben", "team-a", ALL)
RULES = Policy(deny=(Rule("ben", "tables/**"),), allow=(Rule("*", "notebooks/**"), Rule("*", "tables/**")))

FORGED = (
    {"ask": "fetch", "table": "wh:db.events", "params": {}},
    {"ask": "fetch", "table": "wh:db.events", "params": {}, "principal": "ana", "tenant": "team-a"},
    {"ask": "fetch", "table": "wh:db.events", "params": {"principal": "ana"}},
    {"ask": "fetch", "table": "wh:db.events", "params": {}, "scopes": "admin:*", "token": "a-token"},
    {"ask": "fetch", "table": "WH:db.events", "params": {}},
    {"ask": "fetch", "table": "wh:db.events ", "params": {}},
    {"ask": "fetch", "table": "wh:db..events", "params": {}},
    {"ask": "fetch", "table": "file:///etc/passwd", "params": {}},
    {"ask": "fetch", "table": "file://WAREHOUSE#db.events", "params": {}},
    {"ask": "fetch", "table": "http://169.254.169.254/latest/meta-data", "params": {}},
    {"ask": "fetch", "table": "ARTIFACT", "params": {}},
    {"ask": "fetch", "table": "strata://name/team-b/x", "params": {}},
    {"ask": "fetch", "table": "", "params": {}},
    {"ask": "fetch", "table": "x" * 5000, "params": {}},
    {"ask": "fetch", "table": ["wh:db.events"], "params": {}},
    {"ask": "fetch", "table": "wh:db.events", "params": []},
    {"ask": "fetch", "table": "wh:db.events"},
    {"ask": "materialize", "table": "wh:db.events", "params": {}},
    {"ask": "admin", "path": "/v1/admin/cache/clear"},
    {"ask": None},
    {},
    [],
    "fetch",
    None,
)
"""Questions that a cell sends on its only link; its runner may read no table."""


async def ended(client: httpx.AsyncClient, url: str, who: dict[str, str], *sources: str) -> list[dict]:
    """Run a notebook of some cells from top to bottom; returns the results of its cells."""
    cells = [{"id": f"c{place}", "source": source} for place, source in enumerate(sources)]
    made = await client.post("/v1/notebooks", json={"title": "N", "cells": cells})
    path = f"/v1/notebooks/{made.json()['name']}/session"
    async with socket(url, path, **who) as member:
        assert 202 == (await member.ask("run"))["status"]
        for cell in cells:
            await member.event("ended", cell=cell["id"])
    return [cell["result"] for cell in (await client.get(path)).json()["cells"]]


async def test_what_a_cell_forges_in_its_questions_gains_nothing(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Each question is refused in words or ends its cell, whoever it claims to be of; the server goes on."""
    warehouse.create(numbers(100))
    worker = NotebookWorker("local", memory_bytes=256 << 20)
    whole = attrs.evolve(settings, acl_config=RULES, notebook_workers=(worker,))
    async with running(whole) as server, server.client(**ANA) as ana, server.client(**BEN) as ben:
        what = {"inputs": [warehouse.uri()], "transform": {"executor": "scan@v1", "params": {}}}
        answer = await ana.post("/v1/materialize", json=what)
        assert 200 == answer.status_code, answer.text
        asked = json.dumps(FORGED)
        for word, value in (("WAREHOUSE", str(warehouse.path)), ("ARTIFACT", answer.json()["artifact_uri"])):
            asked = asked.replace(word, value)
        plain = [one for one in json.loads(asked) if isinstance(one, dict)]
        odd = [one for one in json.loads(asked) if not isinstance(one, dict)]
        source = (
            f"import json\nfor asked in json.loads({json.dumps(plain)!r}):\n"
            "    answer, files = strata._ask(asked)\n"
            "    print('refused' if answer.get('error') and not files else answer)"
        )
        ask = "import json\nstrata._ask(json.loads({!r}))"
        first, *others = await ended(
            ben, server.url, BEN, source, *(ask.format(json.dumps(one)) for one in odd)
        )
        assert ("ok", ["refused"] * len(plain)) == (first["outcome"], first["stdout"].split("\n")[:-1])
        for one, result in zip(odd, others, strict=True):
            assert result["outcome"] in ("raised", "process_ended"), (one, result)
            assert result["message"]
        # Who may read the table has its rows by the same question.
        with trio.fail_after(240):  # on a busy machine the first read may take too long
            while True:
                (result,) = await ended(ana, server.url, ANA, "print(strata.fetch('wh:db.events').num_rows)")
                if "ok" == result["outcome"]:
                    break
        assert "100\n" == result["stdout"]
