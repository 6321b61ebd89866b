"""The WebSocket of a notebook's session: events down, and up what the routes do as well.

Each frame of a client is handed to the route that does the same for a request, with its scopes and checks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

import attrs
import msgspec
import trio
from msgspec import Meta
from werkzeug.datastructures import MultiDict

from strata.http.api.query_params import MAX_PLACE, bad_parameter, refuse_unknown, values_of, whole
from strata.http.door.routing import Answer, Handler, problem_answer
from strata.http.door.sockets import MALFORMED, REVOKED, Ending, Socket
from strata.http.problems import Problem, ProblemError
from strata.http.routes.notebooks import members, notebooks, session
from strata.http.routes.notebooks.presence import event_answer
from strata.http.routes.notebooks.rights import READ, WRITE
from strata.tenants.notebooks import session_messages as s

ALIVE_SECONDS: Final = 15.0
"""Seconds without an event after which a socket says that it is alive; nginx cuts it after 60 silent ones."""

MAX_FIELDS: Final = 16
"""Most parameters of a handshake that are read."""

ENDINGS: Final[Mapping[str, Ending]] = MappingProxyType(
    {
        "revoked": REVOKED,
        "deleted": Ending(4004, "deleted", "The notebook was deleted."),
        "too_slow": Ending(4008, "too_slow", "You took no events for too long. Open the socket again."),
        "ended": Ending(1012, "ended", "The session ended on this server. Open the socket again."),
    }
)


class FrameBody(msgspec.Struct, forbid_unknown_fields=True):
    """A frame of a client: ``id`` comes back in its reply."""

    type: Annotated[str, Meta(max_length=32)]
    id: Annotated[int, Meta(ge=0, le=2**53)] | Annotated[str, Meta(max_length=64)] | None = None
    payload: dict[str, Any] = {}


@attrs.frozen
class FrameKind:
    """What a frame does.

    Attributes:
        handler: The route that does it.
        place: Key of the payload that is a part of the route's path.
        member: Where the member's id goes: into the ``body``, the ``query``, or nowhere.
        query: Whether the payload is the route's query, and not its body.
    """

    handler: Handler
    place: str | None = None
    member: str | None = None
    query: bool = False


KINDS: Final[Mapping[str, FrameKind]] = MappingProxyType(
    {
        "session": FrameKind(session.describe, query=True),
        "notebook": FrameKind(notebooks.notebook, query=True),
        "focus": FrameKind(members.join, member="body"),
        "lock": FrameKind(members.lock, place="cell", member="body"),
        "unlock": FrameKind(members.unlock, place="cell", member="query", query=True),
        "edit": FrameKind(notebooks.edit, member="body"),
        "run": FrameKind(session.run),
        "interrupt": FrameKind(session.interrupt, query=True),
    }
)


async def talk(socket: Socket) -> None:
    """Join a session, and talk over a socket until one side ends it.

    Raises:
        ProblemError: If the client may not join.
    """
    caller = socket.context.caller
    if not caller.has_scope(READ):
        raise ProblemError(Problem(403, f"This route requires the {READ} scope", error="missing_scope"))
    try:
        pairs = parse_qsl(socket.query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise bad_parameter("query", f"has at most {MAX_FIELDS} parameters") from None
    query = values_of(MultiDict(pairs))
    refuse_unknown(query, {"after", "session"})
    if ("after" in query) != ("session" in query):
        raise bad_parameter("after", "must be given with session, and session with it")
    question = s.FollowSession(
        principal=caller,
        name=socket.parts["notebook"],
        writes=caller.has_scope(WRITE),
        session=query.get("session"),
        after=whole(query, "after", 0, 0, MAX_PLACE),
    )
    followed = await socket.context.ask(question, s.Followed)
    try:
        await socket.accept()
        hello = {
            "session": followed.session,
            "member": followed.member,
            "principal": caller.id,
            "seq": followed.seq,
            "complete": followed.complete,
        }
        await socket.send(_frame("hello", hello))
        async with trio.open_nursery() as nursery:
            for task in (_events, _frames):
                nursery.start_soon(_until_ended, task, socket, followed, nursery.cancel_scope)
    finally:
        followed.leave()


async def _until_ended(task: Any, socket: Socket, followed: s.Followed, everything: trio.CancelScope) -> None:
    ending = await task(socket, followed)
    socket.ending = socket.ending or ending
    everything.cancel()


async def _events(socket: Socket, followed: s.Followed) -> Ending:
    """Send events, or that the socket is alive; return why it ends."""
    seq = followed.seq
    while True:
        batch: s.SessionEvents | None = None
        with trio.move_on_after(ALIVE_SECONDS):
            try:
                batch = await followed.events.receive()
            except trio.EndOfChannel:
                return ENDINGS[followed.reason or "ended"]
        bad = socket.still_good()
        if bad is not None:
            return bad
        if batch is None:
            await socket.send(_frame("alive", {"seq": seq}))
            continue
        seq = batch.seq
        if not batch.complete:
            await socket.send(_frame("reload", {"session": batch.session, "seq": seq}))
        for one in batch.events:
            await trio.lowlevel.checkpoint()  # a batch may be large, and a send need not wait
            await socket.send(msgspec.json.encode(event_answer(one)))


async def _frames(socket: Socket, followed: s.Followed) -> Ending:
    """Answer one frame after the other; return why the socket ends."""
    while True:
        text = await socket.receive()
        if isinstance(text, Ending):
            return text
        bad = socket.still_good()
        if bad is not None:
            return bad
        await socket.send(await _reply(socket, followed, text))


async def _reply(socket: Socket, followed: s.Followed, text: str) -> bytes:
    try:
        frame = msgspec.json.decode(text, type=FrameBody)
    except (msgspec.DecodeError, RecursionError):
        return _answered(None, problem_answer(MALFORMED, socket.context))
    if frame.type == "ping":
        return _frame("pong", {"id": frame.id})
    kind = KINDS.get(frame.type)
    if kind is None:
        known = ", ".join(sorted((*KINDS, "ping")))
        problem = Problem(400, f"No message has this type; known are {known}.", "unknown_type")
        return _answered(frame.id, problem_answer(problem, socket.context))
    payload, parts = dict(frame.payload), {}
    if kind.place is not None:
        parts[kind.place] = str(payload.pop(kind.place, ""))[:64]
    if kind.member is not None:
        payload["member"] = followed.member
    query = {key: str(value) for key, value in payload.items()} if kind.query else {}
    body = b"" if kind.query else msgspec.json.encode(payload)
    return _answered(frame.id, await socket.ask(kind.handler, parts, body, query))


def _answered(id_: int | str | None, answer: Answer) -> bytes:
    assert isinstance(answer.body, bytes)
    head = json.dumps({"id": id_, "status": answer.status})
    return b'{"type": "reply", "payload": %s, "body": %s}}' % (head[:-1].encode(), answer.body or b"null")


def _frame(kind: str, payload: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({"type": kind, "payload": payload})
