"""Overrides of tenants' limits in a running process, on a virtual clock with real files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from strata.config import Problem, Settings
from strata.config.fields import TenantSection
from strata.config.tenants import Overrides, parse_overrides, print_overrides, read_overrides
from strata.file_poller import signature_of
from strata.outcomes import Reason, RefusalError, Refused
from strata.server.service import limits_of
from strata.tenants.limits.overrides import NOT_WRITTEN, UNUSABLE, Changed, TenantOverrides, Unfit


async def at_once(function: Callable[[], Any]) -> Any:
    """Read files on the loop: a virtual clock does not wait for threads."""
    await trio.lowlevel.checkpoint()
    return function()


@pytest.fixture
def tenant_overrides(tmp_path: Path) -> TenantOverrides:
    settings = Settings(
        multi_tenant_enabled=True,
        tenant_overrides_file=str(tmp_path / "overrides.toml"),
        tenants={"a": TenantSection({"bulk_slots": 3, "enabled": False}, {"bulk_slots": 5})},
        tenant_maximum={"interactive_slots": 16},
    )
    return TenantOverrides(settings, limits_of, blocking=at_once)


async def unnoted(_change: Changed) -> None:
    """Write no audit line."""


def overrides(tenant_overrides: TenantOverrides) -> Path:
    return tenant_overrides.settings.overrides_path


def test_limits_are_those_of_the_tenant(tenant_overrides: TenantOverrides) -> None:
    """Sections and maxima reach TenantLimits; tenants without a section share one value."""
    assert (3, 16) == ((found := tenant_overrides.limits("a")).bulk_slots, found.interactive_slots)
    assert (8, 16) == ((found := tenant_overrides.limits("b")).bulk_slots, found.interactive_slots)
    assert tenant_overrides.limits("b") is tenant_overrides.limits("c")
    assert (False, True) == (tenant_overrides.enabled("a"), tenant_overrides.enabled("b"))
    tenant_overrides.take(
        attrs.evolve(tenant_overrides.settings, tenants={}, bulk_slots=2, tenant_maximum={})
    )
    assert (2, 2, 32, True) == (
        tenant_overrides.limits("a").bulk_slots,
        tenant_overrides.limits("b").bulk_slots,
        tenant_overrides.limits("b").interactive_slots,
        tenant_overrides.enabled("a"),
    )


async def test_a_changed_file_holds_within_a_second(
    autojump_clock: MockClock, tenant_overrides: TenantOverrides
) -> None:
    """A new, edited or replaced file takes effect within a second."""
    seen: list[tuple[float, int]] = []
    tenant_overrides.changed = lambda _tenants: seen.append(
        (trio.current_time(), tenant_overrides.limits("b").bulk_slots)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tenant_overrides.poller.watch)
        await trio.sleep(10.1)
        began = trio.current_time()
        overrides(tenant_overrides).write_text("[tenants.b]\nbulk_slots = 1\n")
        await trio.sleep(1)
        overrides(tenant_overrides).write_text("[tenants.b]\nbulk_slots = 20\n")
        await trio.sleep(1)
        overrides(tenant_overrides).write_text("[tenants]\n")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert [1, 20, 8] == [slots for _, slots in seen]
    assert all(0 < at - began - index <= 1 for index, (at, _) in enumerate(seen))


async def test_a_file_with_errors_changes_nothing(
    autojump_clock: MockClock, tenant_overrides: TenantOverrides
) -> None:
    """A file with an error is ignored whole, and the API reports it instead of overwriting it."""
    overrides(tenant_overrides).write_text("[tenants.b]\nbulk_slots = 1\n")
    await tenant_overrides.refresh()
    broken = "[tenants.b]\nbulk_slots = 2\n[tenants.c]\nbulk_slot = 2\n"
    overrides(tenant_overrides).write_text(broken)
    await tenant_overrides.refresh()

    assert (1, 8) == (tenant_overrides.limits("b").bulk_slots, tenant_overrides.limits("c").bulk_slots)
    assert UNUSABLE == await tenant_overrides.change("b", {"bulk_slots": 3}, operator=True, note=unnoted)
    assert broken == overrides(tenant_overrides).read_text()


async def test_changes_survive_a_restart_and_edits_by_hand(
    autojump_clock: MockClock, tenant_overrides: TenantOverrides
) -> None:
    """A change by the API keeps what was edited by hand before it."""
    await tenant_overrides.change("b", {"bulk_slots": 2, "weight": 4.0}, operator=True, note=unnoted)
    overrides(tenant_overrides).write_text(
        overrides(tenant_overrides).read_text() + "\n[tenants.c]\nenabled = false\n"
    )
    changed = await tenant_overrides.change("b", {"bulk_slots": 1}, operator=False, note=unnoted)
    later = TenantOverrides(tenant_overrides.settings, limits_of, blocking=at_once)
    await later.refresh()

    assert Changed({"bulk_slots": None}, {"bulk_slots": 1}) == changed
    for held in (tenant_overrides, later):
        assert (1, 4.0, False) == (held.limits("b").bulk_slots, held.limits("b").weight, held.enabled("c"))
    assert 0o600 == overrides(tenant_overrides).stat().st_mode & 0o777


async def test_going_back_goes_back_to_what_one_has_changed(
    autojump_clock: MockClock, tenant_overrides: TenantOverrides
) -> None:
    """A reset returns a tenant's administrator to the operator's limits, an operator to the configuration."""
    await tenant_overrides.change("b", {"bulk_slots": 4}, operator=True, note=unnoted)
    await tenant_overrides.change("b", {"bulk_slots": 2}, operator=False, note=unnoted)
    assert Changed({"bulk_slots": 2}, {"bulk_slots": None}) == await tenant_overrides.change(
        "b", None, operator=False, note=unnoted
    )
    assert 4 == tenant_overrides.limits("b").bulk_slots
    await tenant_overrides.change("b", {"bulk_slots": 2}, operator=False, note=unnoted)
    await tenant_overrides.change("b", {"enabled": False}, operator=True, note=unnoted)
    await tenant_overrides.change("b", None, operator=True, note=unnoted)
    assert (8, False) == (tenant_overrides.limits("b").bulk_slots, tenant_overrides.enabled("b"))
    await tenant_overrides.change("b", {"enabled": None}, operator=True, note=unnoted)
    assert set() == tenant_overrides.overrides.tenants()


async def test_no_change_exceeds_a_maximum_nor_what_the_tenant_is_given(
    autojump_clock: MockClock, tenant_overrides: TenantOverrides
) -> None:
    """The maximum is allowed; one above it changes nothing, and the refusal prints numbers in full."""
    assert isinstance(
        await tenant_overrides.change("a", {"bulk_slots": 5}, operator=True, note=unnoted), Changed
    )
    assert Unfit(
        (Problem("bulk_slots", "this tenant's maximum is 5; set that or less."),)
    ) == await tenant_overrides.change("a", {"bulk_slots": 6, "batch_size": 1}, operator=True, note=unnoted)
    given = Problem("bulk_slots", "this tenant is granted 5; only an operator can raise it.")
    assert Unfit((given,)) == await tenant_overrides.change(
        "a", {"bulk_slots": 6}, operator=False, note=unnoted
    )
    assert (5, 65536) == ((found := tenant_overrides.limits("a")).bulk_slots, found.batch_rows)
    tenant_overrides.take(
        attrs.evolve(tenant_overrides.settings, tenant_maximum={"max_response_bytes": 10737418240})
    )
    assert Unfit(
        (Problem("max_response_bytes", "this tenant's maximum is 10737418240; set that or less."),)
    ) == await tenant_overrides.change("b", {"max_response_bytes": 10737418241}, operator=True, note=unnoted)


async def test_a_change_that_cannot_be_noted_is_not_made(
    autojump_clock: MockClock, tenant_overrides: TenantOverrides
) -> None:
    """A change is made only if its audit line and its file are written."""
    refused = Refused(Reason.UNAVAILABLE, "no", retry_after=1)

    async def down(_change: Changed) -> None:
        raise RefusalError(refused)

    assert refused == await tenant_overrides.change("b", {"bulk_slots": 2}, operator=True, note=down)
    overrides(tenant_overrides).with_name(
        ".overrides.toml.new"
    ).mkdir()  # where the new file would be written
    assert NOT_WRITTEN == await tenant_overrides.change("b", {"bulk_slots": 2}, operator=True, note=unnoted)
    assert 8 == tenant_overrides.limits("b").bulk_slots
    assert not overrides(tenant_overrides).exists()


async def test_the_file_never_grows_beyond_what_can_be_read_again(
    autojump_clock: MockClock, tenant_overrides: TenantOverrides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that makes the file one byte too large is refused, and the next start reads the rest."""
    noted: list[Changed] = []

    async def note(change: Changed) -> None:
        noted.append(change)

    await tenant_overrides.change("b", {"bulk_slots": 2}, operator=True, note=note)
    size = overrides(tenant_overrides).stat().st_size
    monkeypatch.setattr("strata.config.tenants.MOST_BYTES", size + 1)
    for slots, fits in ((33, True), (444, False)):
        done = await tenant_overrides.change("b", {"bulk_slots": slots}, operator=True, note=note)
        assert fits == isinstance(done, Changed)
        assert 33 == tenant_overrides.limits("b").bulk_slots
    assert (Reason.UNAVAILABLE, "overrides_full") == (done.reason, done.code)
    assert 2 == len(noted)
    later = TenantOverrides(tenant_overrides.settings, limits_of, blocking=at_once)
    await later.refresh()
    assert 33 == later.limits("b").bulk_slots


async def test_changes_at_the_same_time_are_all_made(
    autojump_clock: MockClock, tenant_overrides: TenantOverrides
) -> None:
    """Concurrent changes are applied one after the other, each to the result of the one before."""
    async with trio.open_nursery() as nursery:
        for index in range(10):

            async def change(tenant: str = f"t{index}") -> None:
                await tenant_overrides.change(tenant, {"bulk_slots": 1}, operator=True, note=unnoted)

            nursery.start_soon(change)
    assert {f"t{index}" for index in range(10)} == tenant_overrides.overrides.tenants()
    later = TenantOverrides(tenant_overrides.settings, limits_of, blocking=at_once)
    await later.refresh()
    assert tenant_overrides.overrides == later.overrides


@pytest.mark.parametrize("lost", ["emptied", "cut", "removed", "comments", "a directory", "a pipe", "binary"])
async def test_limits_stay_when_their_file_is_lost(tenant_overrides: TenantOverrides, lost: str) -> None:
    """A file without its content or its end lifts no limit and enables no tenant; one line says so."""
    path = overrides(tenant_overrides)
    for tenant in ("b", "c"):
        values = {"enabled": False, "bulk_slots": 2}
        assert isinstance(await tenant_overrides.change(tenant, values, operator=True, note=unnoted), Changed)
    written = path.read_text()
    path.unlink()
    match lost:
        case "emptied":
            path.touch()
        case "cut":
            path.write_text(written[: written.index("[tenants.c]")])
        case "comments":
            path.write_text("# nothing\n")
        case "a directory":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "binary":
            path.write_bytes(b"\x00\xff\xfe[tenants]")
    with capture_logs() as lines:
        await tenant_overrides.refresh()

    assert [False, False] == [tenant_overrides.enabled(tenant) for tenant in ("b", "c")]
    assert 2 == tenant_overrides.limits("c").bulk_slots
    assert ["warning"] == [line["log_level"] for line in lines]


async def test_a_removed_file_is_written_whole_with_the_next_change(
    tenant_overrides: TenantOverrides,
) -> None:
    """What was in effect is in the file again, the new limit too."""
    for tenant, values in (("b", {"enabled": False}), ("c", {"bulk_slots": 2})):
        overrides(tenant_overrides).unlink(missing_ok=True)
        await tenant_overrides.change(tenant, values, operator=True, note=unnoted)

    found, problems = read_overrides(overrides(tenant_overrides))
    assert (tenant_overrides.overrides, []) == (found, problems)
    assert {"b", "c"} == tenant_overrides.overrides.tenants()


def test_the_last_limit_can_be_reset() -> None:
    """A file without a limit is complete, too: it has its table and its last line."""
    assert (Overrides(), []) == parse_overrides(print_overrides(Overrides()))


@pytest.mark.parametrize("text", ["", "# written by a person\n", "\n\n"])
def test_a_file_with_nothing_in_it_is_refused(text: str) -> None:
    """At a start, too: it was more once, or it says with [tenants] that no tenant has limits."""
    _, (problem,) = parse_overrides(text)
    assert "[tenants]" in problem.message


def test_a_change_of_equal_size_and_time_has_another_signature(tmp_path: Path) -> None:
    """A tool that sets the time of its files back is noticed by the time that it cannot set."""
    path = tmp_path / "rules.toml"
    path.write_text("one")
    os.utime(path, ns=(1, 1))
    before = signature_of(path)
    while path.stat().st_ctime_ns == before[4]:  # until the file system's clock has moved on
        path.write_text("two")
        os.utime(path, ns=(1, 1))

    assert before[:4] == signature_of(path)[:4]
    assert before != signature_of(path)
