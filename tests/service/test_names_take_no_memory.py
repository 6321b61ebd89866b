"""Nothing in the process grows with the names that clients invent: of users, directories and tables."""

from __future__ import annotations

import gc
from itertools import islice

import attrs
import pytest
from service_kit import Running, running, scan

from strata.config import Settings
from strata.http.door import request_line
from strata.tables.catalogs import loading
from strata.tenants.shared import table_loader

NAMES = 1500
"""Names in use: more than any bound of what is kept by name (1,024)."""


def remembered(names: int, mark: str) -> list[str]:
    """Return the containers of names with a mark that have nearly as many entries as there were names.

    Most of the entries looked at have the mark: a container of Hypothesis, which keeps a set of the
    strings written in modules, has it in one of hundreds. Not the log lines that the suite keeps to
    look for secrets.
    """
    gc.collect()
    large = [one for one in gc.get_objects() if isinstance(one, dict | set | list) and len(one) > 0.9 * names]
    names_of = [
        (one, [str(key) for key in islice(one, 20) if "'request_id'" not in str(key)]) for one in large
    ]
    return [
        f"{type(one)} {len(one)}"
        for one, found in names_of
        if sum(mark in key for key in found) > len(found) / 2
    ]


def personal(settings: Settings) -> Settings:
    return attrs.evolve(
        settings, deployment_mode="personal", auth_mode="none", proxy_token="", multi_tenant_enabled=False,
        require_tenant_header=False, personal_mode_user_header="X-User", rate_limit_enabled=True,
        rate_limit_client_rps=1000,
    )  # fmt: skip


async def visit(server: Running, names: int, path: str, body: dict | None = None) -> None:
    async with server.client(**{"X-Strata": "none"}) as client:
        for number in range(names):
            headers = {"X-User": f"user-{number}"}
            if body is None:
                assert 200 == (await client.get(path, headers=headers)).status_code
            else:
                body["inputs"] = [f"file:///nowhere/{number}#db.t{number}"]
                assert 404 == (await client.post(path, json=body, headers=headers)).status_code


async def test_users_of_personal_mode_are_not_remembered_for_ever(settings: Settings) -> None:
    """After requests of 1,500 users no container has an entry for each of them."""
    async with running(personal(settings)) as server:
        await visit(server, NAMES, "/v1/me")
        assert [] == remembered(NAMES, "user-")


async def test_directories_of_personal_mode_are_not_remembered_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After requests for tables in 300 directories that do not exist, a bounded number of them is kept."""
    names = 300
    monkeypatch.setattr(request_line, "TABLES_REMEMBERED", names // 2)
    monkeypatch.setattr(table_loader, "NEGATIVES", names // 2)
    async with running(personal(settings)) as server:
        await visit(server, names, "/v1/materialize", scan(""))
        assert [] == remembered(names, "nowhere")
        catalogs = server.service.registry.resources.catalogs
        assert loading.DIRECTORIES == len(catalogs._directories)
