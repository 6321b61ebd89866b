"""The checks: each is a function whose first line says what an executor must do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from strata.executor.protocol.arrow_framing import FramingError
from strata.executor.protocol.messages import ARROW_STREAM, PROTOCOL_HEADER, ROWS_HEADER
from strata.executor.protocol.multipart import MultipartBody, Part
from strata.executor.verify.subject import CheckFailed, Reply, Subject, Text, rows
from strata.http.calling.addresses import AddressRules, UrlError
from strata.http.calling.exchange import CallError, call

Check = Callable[[Subject], Awaitable[None]]

LARGE_ROWS: Final = 500_000
"""Rows of the large input: about 12 MB."""

IDLE_SECONDS: Final = 5.0
"""Seconds in which a build ends whose caller has left."""

CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Add a function to the checks."""
    CHECKS.append(function)
    return function


@attrs.frozen
class Outcome:
    """How a check went.

    Attributes:
        name: The check.
        promise: What it verifies.
        fault: What the executor did instead; None: it passed.
    """

    name: str
    promise: str
    fault: str | None


async def verify(subject: Subject, told: Callable[[Outcome], None]) -> list[Outcome]:
    """Run all checks, one after the other, and tell each outcome as it comes."""
    found = []
    for one in CHECKS:
        fault = None
        try:
            await one(subject)
        except (CheckFailed, FramingError) as error:
            fault = str(error)
        except (CallError, UrlError) as error:
            fault = f"the call failed: {error}"
        found.append(Outcome(one.__name__, (one.__doc__ or "").rstrip("."), fault))
        told(found[-1])
    return found


def must(condition: object, fault: str) -> None:
    """Raise CheckFailed with ``fault`` unless the condition holds."""
    if not condition:
        raise CheckFailed(fault)


def refused(reply: Reply, *statuses: int) -> None:
    """Check that an answer is a refusal with one of some statuses, in JSON with a message."""
    must(reply.status in statuses, f"answered {reply.status} instead of {' or '.join(map(str, statuses))}")
    found = reply.json()
    keys = ("detail", "error", "error_message")
    said = isinstance(found, dict) and any(isinstance(found.get(key), str) and found[key] for key in keys)
    must(said, "the answer says nothing in detail, error or error_message")


async def _capabilities(subject: Subject) -> dict[str, Any]:
    found = (await subject.health()).json()
    must(isinstance(found, dict) and isinstance(found.get("capabilities"), dict), "it has no capabilities")
    return dict(found["capabilities"])


@check
async def health_answers(subject: Subject) -> None:
    """GET /health is answered 200 without a token."""
    reply = await subject.health()
    must(reply.status == 200, f"answered {reply.status}")  # noqa: PLR2004  # OK


@check
async def health_is_healthy(subject: Subject) -> None:
    """GET /health is a JSON object whose status is healthy."""
    found = (await subject.health()).json()
    must(isinstance(found, dict) and found.get("status") == "healthy", "its status is not healthy")


@check
async def health_names_the_protocol(subject: Subject) -> None:
    """The capabilities name version v1 of the protocol."""
    must("v1" in ((await _capabilities(subject)).get("protocol_versions") or ()), "v1 is not in it")


@check
async def health_names_transforms(subject: Subject) -> None:
    """The capabilities list transforms as name@version."""
    refs = (await _capabilities(subject)).get("transform_refs")
    fits = (
        isinstance(refs, list) and refs and all(isinstance(one, str) and one.count("@") == 1 for one in refs)
    )
    must(fits, "transform_refs is no list of name@version")


@check
async def health_names_this_transform(subject: Subject) -> None:
    """The transform of this verification is listed."""
    must(subject.ref in (await _capabilities(subject)).get("transform_refs", ()), f"{subject.ref} is not")


@check
async def health_counts_builds(subject: Subject) -> None:
    """The field active_executions is a number that is not negative."""
    found = (await subject.health()).json().get("active_executions")
    must(isinstance(found, int) and found >= 0, "it is not")


@check
async def health_says_its_age(subject: Subject) -> None:
    """The fields uptime_seconds and version are there."""
    found = (await subject.health()).json()
    must(isinstance(found.get("uptime_seconds"), int | float), "uptime_seconds is missing")
    must(isinstance(found.get("version"), str), "version is missing")


@check
async def a_build_is_answered(subject: Subject) -> None:
    """A right build is answered 200 with rows."""
    (await subject.execute(subject.description())).rows()


@check
async def the_type_is_arrow(subject: Subject) -> None:
    """The answer's type is that of an Arrow stream."""
    kind = (await subject.execute(subject.description())).headers.get("content-type", "")
    must(kind.partition(";")[0].strip() == ARROW_STREAM, f"it is {kind[:80] or 'missing'}")


@check
async def the_answer_names_the_protocol(subject: Subject) -> None:
    """The answer has the header X-Strata-Executor-Protocol: v1."""
    found = (await subject.execute(subject.description())).headers.get(PROTOCOL_HEADER)
    must(found == "v1", f"it is {found!r}")


@check
async def the_rows_are_as_many_as_said(subject: Subject) -> None:
    """X-Arrow-Row-Count, if it is sent, is the number of the rows."""
    reply = await subject.execute(subject.description())
    said, found = reply.headers.get(ROWS_HEADER), reply.rows().num_rows
    must(said is None or said == str(found), f"it is {said}, and there are {found} rows")


@check
async def the_same_build_gives_the_same(subject: Subject) -> None:
    """Two builds of the same inputs and parameters give the same rows."""
    first = (await subject.execute(subject.description())).rows()
    must(first.equals((await subject.execute(subject.description())).rows()), "they differ")


@check
async def a_repeated_attempt_is_no_fault(subject: Subject) -> None:
    """A second attempt at a build that has ended gives the same, or 409."""
    what = subject.description()
    first = (await subject.execute(what)).rows()
    again = await subject.execute({**what, "attempt": 2})
    must(again.status == 409 or first.equals(again.rows()), "it gives something else")  # noqa: PLR2004  # conflict


@check
async def no_rows_are_rows(subject: Subject) -> None:
    """An input without rows is no fault."""
    (await subject.execute(subject.description(), [rows(0)])).rows()


@check
async def a_large_input_arrives(subject: Subject) -> None:
    """An input of twelve megabytes is taken."""
    large = await trio.to_thread.run_sync(rows, LARGE_ROWS)
    (await subject.execute(subject.description(), [large])).rows()


@check
async def unknown_keys_are_ignored(subject: Subject) -> None:
    """Keys of the description that it does not know are no fault."""
    (await subject.execute(subject.description(future={"x": [1]}, tenant="team-a"))).rows()


@check
async def two_builds_at_once(subject: Subject) -> None:
    """Two builds at once are both answered, or one is refused with 503 and Retry-After."""
    found: list[Reply | CallError | CheckFailed] = []

    async def one() -> None:
        try:
            found.append(await subject.execute(subject.description()))
        except (CallError, CheckFailed) as error:
            found.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    for reply in found:
        if not isinstance(reply, Reply):
            raise reply
        if reply.status == 503:  # noqa: PLR2004  # full
            must(reply.headers.get("retry-after", "").isdigit(), "503 without Retry-After")
        else:
            reply.rows()


@check
async def another_version_is_refused(subject: Subject) -> None:
    """Another version of the protocol is 400."""
    refused(await subject.execute(subject.description(protocol_version="v999")), 400)


@check
async def an_unknown_transform_is_refused(subject: Subject) -> None:
    """A transform that it does not know is 400 (or 404)."""
    what = subject.description(transform={"ref": "no_such_transform@v1", "params": {}})
    refused(await subject.execute(what), 400, 404)


@check
async def a_description_that_is_no_json_is_refused(subject: Subject) -> None:
    """A metadata part that is no JSON is 400."""
    refused(await subject.execute(b"{"), 400)


@check
async def a_description_that_is_no_object_is_refused(subject: Subject) -> None:
    """A metadata part that is no object is 400."""
    refused(await subject.execute([1]), 400)


@check
async def a_build_without_a_description_is_refused(subject: Subject) -> None:
    """A body without a metadata part is 400."""
    body = MultipartBody([Part("input0", "input0.arrow", ARROW_STREAM, rows(1))])
    refused(await subject.execute({}, body=body), 400)


@check
async def a_missing_input_is_refused(subject: Subject) -> None:
    """An input of the description without a part is 400."""
    refused(await subject.execute(subject.description(), []), 400)


@check
async def another_type_is_refused(subject: Subject) -> None:
    """A body that is not multipart/form-data is 400 (or 415)."""
    refused(await subject.execute(subject.description(), content_type="application/json"), 400, 415)


@check
async def a_half_body_is_refused(subject: Subject) -> None:
    """A body that ends before its last boundary is 400, and the executor goes on."""
    whole = MultipartBody([Part("metadata", "metadata.json", "application/json", b"{}")])
    text = b"".join([part async for part in whole])[:-8]
    headers = [("Content-Type", whole.content_type), *subject.bearer()]
    refused(await subject.ask("POST", "/v1/execute", headers, Text(text)), 400)


@check
async def an_input_that_is_no_arrow_is_refused(subject: Subject) -> None:
    """An input that is no Arrow stream is an error and no result."""
    reply = await subject.execute(subject.description(), [b"this is no Arrow stream"])
    refused(reply, 400, 422, 500)


@check
async def a_wrong_token_is_refused(subject: Subject) -> None:
    """With a token, another one is 401."""
    if subject.token is not None:
        refused(await subject.execute(subject.description(), token="wrong"), 401)  # noqa: S106  # it is wrong


@check
async def a_missing_token_is_refused(subject: Subject) -> None:
    """With a token, none is 401, for cancellations, too."""
    if subject.token is not None:
        refused(await subject.execute(subject.description(), token=None), 401)
        refused(await subject.ask("POST", "/v1/executions/none/cancel"), 401)


@check
async def an_unknown_build_cannot_be_cancelled(subject: Subject) -> None:
    """The cancellation of an unknown build is 200 with cancelled false, or 404."""
    reply = await subject.ask("POST", "/v1/executions/no-such-build/cancel", subject.bearer())
    if reply.status != 404:  # noqa: PLR2004  # unknown
        must(reply.status == 200, f"answered {reply.status}")  # noqa: PLR2004  # OK
        must(reply.json().get("cancelled") is False, "cancelled is not false")


@check
async def an_unknown_path_is_refused(subject: Subject) -> None:
    """A path that the protocol does not have is 404."""
    reply = await subject.ask("GET", "/v1/no-such-path", subject.bearer())
    must(reply.status == 404, f"answered {reply.status}")  # noqa: PLR2004  # unknown


@check
async def a_caller_may_leave(subject: Subject) -> None:
    """When a caller leaves in the middle, its build ends within five seconds."""
    before = (await subject.health()).json().get("active_executions", 0)
    body = MultipartBody([Part("metadata", "metadata.json", "application/json", b"x" * 100_000)])
    headers = [("Content-Type", body.content_type), *subject.bearer()]
    with trio.move_on_after(0.2):
        half = Text(b"".join([part async for part in body])[:1000])
        async with call(
            "POST",
            f"{subject.url}/v1/execute",
            rules=AddressRules(private=True),
            headers=headers,
            body=half,
            size=body.size,
        ):
            pass
    with trio.move_on_after(IDLE_SECONDS):
        while (await subject.health()).json().get("active_executions", 0) > before:  # noqa: ASYNC110  # no event of another process
            await trio.sleep(0.1)
        return
    raise CheckFailed("active_executions is still higher than before")


@check
async def it_is_well_afterwards(subject: Subject) -> None:
    """After all of this it is healthy and a right build is answered."""
    await health_is_healthy(subject)
    await a_build_is_answered(subject)
