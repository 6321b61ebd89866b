"""The WebSocket of a notebook's session: what members see and do, and what ends a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import httpx
import pytest
import trio
from service_kit import Running, identity, running
from socket_kit import Client, RejectedError, socket

from strata.acl import CompiledPolicy, Policy, Rule
from strata.config import Settings
from strata.config.fields import NotebookWorker
from strata.http.door import sockets
from strata.http.serving.websocket import MESSAGE_BYTES

ALL = "notebook:read notebook:write notebook:execute"
RULES = Policy(
    deny=(Rule("eve", "notebooks/**"), Rule("rob", "notebooks/**", action="write")),
    allow=(Rule("*", "notebooks/**"), Rule("*", "tables/**")),
)
ANA = identity("ana", "team-a", ALL)
BEN = identity("ben", "team-a", ALL)
ROB = identity("rob", "team-a", ALL)


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Running]:
    worker = NotebookWorker("local", memory_bytes=256 << 20)
    async with running(attrs.evolve(settings, acl_config=RULES, notebook_workers=(worker,))) as found:
        yield found


async def make(server: Running, *sources: str) -> str:
    """Make a notebook of ana's; returns the path of its session."""
    cells = [{"id": f"c{place}", "source": source} for place, source in enumerate(sources)]
    async with server.client(**ANA) as client:
        answer = await client.post("/v1/notebooks", json={"title": "Flights", "cells": cells})
    assert 201 == answer.status_code, answer.text
    return f"/v1/notebooks/{answer.json()['name']}/session"


@asynccontextmanager
async def joined(server: Running, path: str, headers: dict[str, str]) -> AsyncIterator[tuple[Client, dict]]:
    async with socket(server.url, path, **headers) as client:
        yield client, await client.event("hello")


async def test_two_members_see_each_other_their_edits_and_one_result(server: Running) -> None:
    """What one member edits and runs, the other is told of, in numbered events, and reads the same result."""
    path = await make(server, "x = 1", "y = x + 1")
    async with joined(server, path, ANA) as (ana, hello), joined(server, path, BEN) as (ben, _):
        assert ("ana", False) == (hello["principal"], hello["complete"])
        assert "ben" == (await ana.event("joined", principal="ben"))["principal"]
        edit = {"op": "replace", "id": "c0", "source": "x = 20"}
        assert 200 == (await ana.ask("edit", revision=1, edits=[edit]))["status"]
        edited = await ben.event("edited")
        assert (2, ["c0"], "ana") == (edited["revision"], edited["cells"], edited["principal"])
        notebook = await ben.ask("notebook")
        assert "x = 20" == notebook["body"]["cells"][0]["source"]
        assert 202 == (await ben.ask("run"))["status"]
        for member in (ana, ben):
            assert "ok" == (await member.event("ended", cell="c1"))["how"]
        results = [(await member.ask("session"))["body"]["cells"][1]["result"] for member in (ana, ben)]
        assert "21" == results[0]["values"]["y"]["preview"]
        assert results[0] == results[1]
        numbers = [one["seq"] for one in ben.seen if "seq" in one]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_one_member_at_a_time_edits_a_cell(server: Running) -> None:
    """An edit locks its cells for five seconds, over the socket and by requests; the refusal names who has it."""
    path = await make(server, "x = 1", "y = 2")
    async with joined(server, path, ANA) as (ana, _), joined(server, path, BEN) as (ben, _):
        assert 200 == (await ana.ask("lock", cell="c0"))["status"]
        assert "c0" == (await ben.event("locked"))["cell"]
        edit = {"op": "replace", "id": "c0", "source": "x = 2"}
        refused = await ben.ask("edit", revision=1, edits=[edit])
        assert (409, "cell_locked") == (refused["status"], refused["body"]["error"])
        assert "ana" in refused["body"]["detail"]
        async with server.client(**BEN) as client:
            answer = await client.post(
                path.replace("session", "edits"), json={"revision": 1, "edits": [edit]}
            )
            assert (409, "cell_locked") == (answer.status_code, answer.json()["error"])
            # Another cell is free, and an edit by a request is told to all.
            other = {"op": "replace", "id": "c1", "source": "y = 3"}
            answer = await client.post(
                path.replace("session", "edits"), json={"revision": 1, "edits": [other]}
            )
            assert 200 == answer.status_code
        edited = await ana.event("edited")
        assert ("", "ben") == (edited["member"], edited["principal"])
        assert 200 == (await ana.ask("unlock", cell="c0"))["status"]
        await ben.event("unlocked", cell="c0")
        assert 200 == (await ben.ask("edit", revision=2, edits=[edit]))["status"]
        assert 404 == (await ana.ask("lock", cell="nowhere"))["status"]


async def test_a_lock_ends_by_itself_and_with_its_member(server: Running) -> None:
    """Locks expire, and go with the member that had them."""
    path = await make(server, "x = 1")
    async with joined(server, path, BEN) as (ben, _):
        async with joined(server, path, ANA) as (ana, hello):
            assert 200 == (await ana.ask("lock", cell="c0"))["status"]
            await ben.event("unlocked", cell="c0")
            assert 200 == (await ana.ask("lock", cell="c0"))["status"]
        await ben.event("left", member=hello["member"], reason="closed")
        assert 200 == (await ben.ask("lock", cell="c0"))["status"]


async def test_members_without_a_socket_join_lock_and_leave(server: Running) -> None:
    """Everything that a socket can do, requests can do; a member's id is of no use to another principal."""
    path = await make(server, "x = 1")
    async with joined(server, path, ANA) as (ana, hello), server.client(**BEN) as ben:
        answer = await ben.post(f"{path}/members", json={"focus": "c0"})
        member = answer.json()["member"]
        assert (200, {"ana", "ben"}) == (
            answer.status_code,
            {one["principal"] for one in answer.json()["members"]},
        )
        assert "c0" == (await ana.event("focused", member=member))["cell"]
        answer = await ben.put(f"{path}/locks/c0", json={"member": member})
        assert [("c0", "ben")] == [(one["cell"], one["principal"]) for one in answer.json()["locks"]]
        assert 5 >= answer.json()["locks"][0]["seconds"] > 0
        answer = await ben.put(f"{path}/locks/c0", json={"member": hello["member"]})
        assert (409, "not_joined") == (answer.status_code, answer.json()["error"])
        assert 409 == (await ben.delete(f"{path}/members/{hello['member']}")).status_code
        assert 200 == (await ben.delete(f"{path}/locks/c0", params={"member": member})).status_code
        edits = {"revision": 1, "member": member, "edits": [{"op": "replace", "id": "c0", "source": "x = 2"}]}
        assert 200 == (await ben.post(path.replace("session", "edits"), json=edits)).status_code
        assert "ben" == (await ana.event("edited", member=member))["principal"]
        assert 200 == (await ben.delete(f"{path}/members/{member}")).status_code
        await ana.event("left", member=member, reason="closed")
        assert ["ana"] == [one["principal"] for one in (await ben.get(path)).json()["members"]]


async def test_a_client_goes_on_after_the_last_event_it_has(server: Running) -> None:
    """A socket that was cut is opened again behind the last event; one of another session loads the state."""
    path = await make(server, "print('one')", "print('two')")
    async with joined(server, path, ANA) as (ana, hello):
        await ana.ask("run")
        await ana.event("ended", cell="c1")
        events = [one for one in ana.seen if "seq" in one]
    place = f"{path}?session={hello['session']}&after={events[2]['seq']}"
    async with joined(server, place, ANA) as (ana, again):
        assert (True, events[2]["seq"]) == (again["complete"], again["seq"])
        await ana.event("ended", cell="c1")
        assert events[3:] == [one for one in ana.seen if "seq" in one][: len(events) - 3]
    for other in (f"{path}?session=0&after=0", f"{path}?session={hello['session']}&after=99999"):
        async with joined(server, other, ANA) as (_, again):
            assert again["complete"] is False


@pytest.mark.parametrize(
    ("headers", "more", "status"),
    [
        ({"X-Strata-Principal": "ana", "X-Tenant-ID": "team-a"}, "", 401),
        (ANA | {"X-Strata-Proxy-Token": "x" * 28}, "", 401),
        (identity("ana", "team-a", "notebook:write"), "", 403),
        (identity("eve", "team-a", ALL), "", 404),
        (identity("bob", "team-b", ALL), "", 404),
        (ANA | {"Origin": "https://evil.example"}, "", 403),
        (ANA | {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, "", 403),
        (ANA, "?after=1", 400),
        (ANA, "?after=x&session=1", 400),
        (ANA, "?unknown=1", 400),
        (ANA, "?" + "&".join(f"a{place}=1" for place in range(99)), 400),
        (ANA, "?after=1&after=2&session=1", 400),
    ],
)
async def test_a_handshake_is_refused_like_a_request(
    server: Running, headers: dict[str, str], more: str, status: int
) -> None:
    """Identity, scope, rules, tenant and origin are checked before any frame; the answer is a problem."""
    path = await make(server, "x = 1")
    with pytest.raises(RejectedError) as caught:
        async with socket(server.url, path + more, **headers):
            pass
    assert status == caught.value.status
    assert status == json.loads(caught.value.body)["status"]
    async with joined(server, path, ANA | {"Origin": server.url}) as (ana, _):
        assert 200 == (await ana.ask("session"))["status"]


async def test_each_frame_needs_its_scope_and_its_right(server: Running) -> None:
    """A reader's frames that write or run are refused; the socket goes on."""
    path = await make(server, "x = 1")
    edit = {"revision": 1, "edits": [{"op": "replace", "id": "c0", "source": "x = 2"}]}
    async with joined(server, path, identity("ana", "team-a", "notebook:read")) as (reader, _):
        for kind, payload in (("edit", edit), ("lock", {"cell": "c0"}), ("run", {}), ("interrupt", {})):
            answer = await reader.ask(kind, **payload)
            assert (403, "missing_scope") == (answer["status"], answer["body"]["error"])
        assert 200 == (await reader.ask("session"))["status"]
    async with joined(server, path, ROB) as (rob, _):
        assert 403 == (await rob.ask("edit", **edit))["status"]
        assert (403, "read_only") == (
            (locked := await rob.ask("lock", cell="c0"))["status"],
            locked["body"]["error"],
        )


async def test_odd_frames_are_answered_and_end_nothing(server: Running) -> None:
    """A message that is no JSON, of no known type or of another form has its refusal; the socket goes on."""
    path = await make(server, "x = 1")
    async with joined(server, path, ANA) as (ana, _):
        for text in (
            "",
            "{",
            "[]",
            '{"type": 1}',
            '{"type": "x" "id": 1}',
            '{"type":"run","more":1}',
            "[" * 9999,
        ):
            await ana.text(text)
            assert 400 == (await ana.event("reply"))["status"]
        assert 400 == (await ana.ask("no such type"))["status"]
        assert 422 == (await ana.ask("run", cells="c0"))["status"]
        assert 422 == (await ana.ask("run", cells=["nowhere"]))["status"]
        assert 400 == (await ana.ask("session", more=1))["status"]
        assert 409 == (await ana.ask("edit", revision=9, edits=[{"op": "delete", "id": "c0"}]))["status"]
        await ana.text('{"type": "ping", "id": 7}')
        assert 7 == (await ana.event("pong"))["id"]


async def test_faults_of_a_client_end_its_socket_alone(server: Running) -> None:
    """A message beyond the bound, a binary one, and broken frames close the socket, each with its code."""
    path = await make(server, "x = 1")
    masked = b"\x00\x00\x00\x00"
    async with joined(server, path, BEN) as (ben, _):
        async with joined(server, path, ANA) as (ana, _):
            await ana.text("x" * (MESSAGE_BYTES + 1))
            assert 1009 == (await ana.ended())[0]
        async with joined(server, path, ANA) as (ana, _):  # in pieces, each of them small
            await ana.raw(b"\x01\xfe\x10\x00" + masked + b"x" * 4096)
            for _ in range(MESSAGE_BYTES // 4096):
                await ana.raw(b"\x00\xfe\x10\x00" + masked + b"x" * 4096)
            assert 1009 == (await ana.ended())[0]
        async with joined(server, path, ANA) as (ana, _):
            await ana.binary(b"{}")
            assert (1003, "not_text") == await ana.ended()
        for frame, code in (
            (b"\xc1\x80" + masked, 1002),  # compressed, which was not agreed on
            (b"\x81\x02{}", 1002),  # not masked
            (b"\x81\x81" + masked + b"\xff", 1007),  # not UTF-8
            (b"\x83\x80" + masked, 1002),  # of a kind that is not known
            (b"\x80\x80" + masked, 1002),  # goes on with a message that has not begun
            (
                b"\x01\x81" + masked + b"{" + b"\x81\x82" + masked + b"{}",
                1002,
            ),  # begins another in the middle
            (b"\x89\xfe\x00\x7e" + masked + b"x" * 126, 1002),  # a ping that is too long
        ):
            async with joined(server, path, ANA) as (ana, _):
                await ana.raw(frame)
                assert code == (await ana.ended())[0], frame
        assert 200 == (await ben.ask("session"))["status"]
        with trio.fail_after(30):
            while ["ben"] != [one["principal"] for one in (await ben.ask("session"))["body"]["members"]]:
                pass


async def test_a_member_who_may_not_read_any_more_is_told_and_goes(server: Running) -> None:
    """New rules end the sockets of those they refuse, and of nobody else; what runs goes on."""
    path = await make(server, "x = 1")
    async with joined(server, path, ANA) as (ana, _), joined(server, path, BEN) as (ben, hello):
        await ana.event("joined", principal="ben")
        deny = (*RULES.deny, Rule("ben", "notebooks/**"))
        server.service.take_rules(CompiledPolicy(attrs.evolve(RULES, deny=deny)))
        assert (4003, "revoked") == await ben.ended()
        await ana.event("left", member=hello["member"], reason="revoked")
        assert 200 == (await ana.ask("session"))["status"]


async def test_a_member_who_may_not_write_any_more_goes_on_reading(server: Running) -> None:
    """A right that is lost in the middle counts at the next frame; what that member had locked is soon free."""
    path = await make(server, "x = 1")
    edit = {"op": "replace", "id": "c0", "source": "x = 2"}
    async with joined(server, path, ANA) as (ana, _), joined(server, path, BEN) as (ben, _):
        assert 200 == (await ben.ask("lock", cell="c0"))["status"]
        deny = (
            *RULES.deny,
            Rule("ben", "notebooks/**", action="write"),
            Rule("ben", "notebooks/**", action="run"),
        )
        server.service.take_rules(CompiledPolicy(attrs.evolve(RULES, deny=deny)))
        for kind, payload in (
            ("edit", {"revision": 1, "edits": [edit]}),
            ("lock", {"cell": "c0"}),
            ("run", {}),
        ):
            assert 403 == (await ben.ask(kind, **payload))["status"], kind
        assert 1 == (await ben.ask("notebook"))["body"]["revision"]
        await ana.event("unlocked", cell="c0")
        assert 200 == (await ana.ask("edit", revision=1, edits=[edit]))["status"]
        assert 2 == (await ben.event("edited"))["revision"]


async def test_frames_that_come_too_soon_or_behind_a_close_do_nothing(server: Running) -> None:
    """An unlock before a lock, an interrupt before a run, an edit behind the client's own close."""
    path = await make(server, "x = 1")
    async with joined(server, path, BEN) as (ben, _):
        async with joined(server, path, ANA) as (ana, hello):
            for kind, payload in (("unlock", {"cell": "c0"}), ("interrupt", {})):
                answer = await ana.ask(kind, **payload)
                assert (200, [], "idle") == (
                    answer["status"],
                    answer["body"].get("locks", []),
                    answer["body"].get("cells", [{"status": "idle"}])[0]["status"],
                )
            edit = {"revision": 1, "edits": [{"op": "replace", "id": "c0", "source": "x = 2"}]}
            text = json.dumps({"type": "edit", "payload": edit}).encode()
            mask = b"\x00\x00\x00\x00"
            behind = b"\x81\xfe" + len(text).to_bytes(2, "big") + mask + text
            await ana.raw(b"\x88\x82" + mask + b"\x03\xe8" + behind)
            assert 1000 == (await ana.ended())[0]
        await ben.event("left", member=hello["member"], reason="closed")
        assert 1 == (await ben.ask("notebook"))["body"]["revision"]
        assert 200 == (await ben.ask("edit", **edit))["status"]


async def test_a_new_proxy_token_ends_the_identities_of_the_old_one(server: Running) -> None:
    """The handshake's identity is read again under each new contract."""
    path = await make(server, "x = 1")
    async with joined(server, path, ANA) as (ana, _):
        door = server.service.app
        door.contract = attrs.evolve(door.contract, tokens=("b" * 20,))
        await ana.text('{"type": "session"}')
        assert (4003, "revoked") == await ana.ended()


async def test_a_deleted_notebook_ends_its_sockets(server: Running) -> None:
    """Members are told that the notebook is gone."""
    path = await make(server, "x = 1")
    async with joined(server, path, ANA) as (ana, _), server.client(**ANA) as client:
        assert 200 == (await client.delete(path.removesuffix("/session"))).status_code
        assert (4004, "deleted") == await ana.ended()


async def test_a_socket_lasts_for_a_time(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy states the identity at the next handshake anew: a scope that was lost is lost."""
    path = await make(server, "x = 1")
    async with joined(server, path, ANA) as (ana, _):
        monkeypatch.setattr(sockets, "SOCKET_SECONDS", 0.0)
        await ana.text('{"type": "session"}')
        assert (4001, "renew") == await ana.ended()
        monkeypatch.undo()
    async with joined(server, path, identity("ana", "team-a", "notebook:read notebook:write")) as (ana, _):
        refused = await ana.ask("run")
        assert (403, "missing_scope") == (refused["status"], refused["body"]["error"])
    with pytest.raises(RejectedError, match="403"):
        async with socket(server.url, path, **identity("ana", "team-a", "notebook:execute")):
            pass


async def test_a_stop_ends_sockets_at_once(settings: Settings) -> None:
    """A server that stops does not wait for open notebooks."""
    async with AsyncExitStack() as stack:
        async with running(attrs.evolve(settings, acl_config=RULES)) as server:
            path = await make(server, "x = 1")
            ana, _ = await stack.enter_async_context(joined(server, path, ANA))
        assert (1001, "stopping") == await ana.ended()


async def test_places_are_bounded_and_shared(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """One principal, and one tenant, leave sockets to others; the refusal says what to do."""
    path = await make(server, "x = 1")
    monkeypatch.setattr(server.service.app.sockets.places, "most", 8)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(joined(server, path, ANA))
        with pytest.raises(RejectedError) as caught:
            await stack.enter_async_context(joined(server, path, ANA))
        assert (429, "too_many_sockets") == (caught.value.status, json.loads(caught.value.body)["error"])
        await stack.enter_async_context(joined(server, path, BEN))
    async with joined(server, path, ANA) as (ana, _):
        assert 200 == (await ana.ask("session"))["status"]


async def test_a_get_that_is_no_whole_handshake_is_a_request(server: Running) -> None:
    """The path answers requests as before, whatever they wish to upgrade to."""
    path = await make(server, "x = 1")
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    async with httpx.AsyncClient(base_url=server.url, headers=ANA) as client:
        for headers in (
            {},
            upgrade,
            upgrade | key | {"Sec-WebSocket-Version": "12"},
            upgrade | {"Sec-WebSocket-Key": "short"},
            upgrade | key | {"Upgrade": "h2c"},
        ):
            assert 200 == (await client.get(path, headers=headers)).status_code
        answer = await client.get("/v1/me", headers=upgrade | key)
        assert 200 == answer.status_code
