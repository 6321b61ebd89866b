"""Work under way is decided on when the rules are replaced; what cannot be decided ends, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from strata.acl import CompiledPolicy, Policy
from strata.tenants.shared.authorizer import Authorizer
from strata.tenants.shared.rights_watch import DECIDE_SECONDS, RightsWatch

RULES = CompiledPolicy(Policy())


@attrs.define(eq=False)
class Work:
    """Work that is permitted, or not, or on which no decision comes."""

    permitted: bool | None = True
    decisions: int = 0
    ended: int = 0

    async def decide(self) -> bool:
        self.decisions += 1
        if self.permitted is None:
            await trio.sleep_forever()
        return bool(self.permitted)

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
async def rights() -> AsyncIterator[RightsWatch]:
    found = RightsWatch(Authorizer(None))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.run)
        await wait_all_tasks_blocked()
        yield found
        nursery.cancel_scope.cancel()


async def replace(rights: RightsWatch) -> None:
    rights.authorizer.take(RULES)
    await wait_all_tasks_blocked()


async def test_only_what_is_not_permitted_ends(rights: RightsWatch) -> None:
    """Each is decided on once for each replacement of the rules; what is forgotten is not."""
    kept, ended, gone = Work(), Work(permitted=False), Work(permitted=False)
    forget = [rights.add("a", work.decide, work.end) for work in (kept, ended, gone)]
    forget[2]()
    forget[2]()
    await wait_all_tasks_blocked()
    assert [0, 0, 0] == [work.decisions for work in (kept, ended, gone)]
    await replace(rights)
    assert [0, 1, 0] == [work.ended for work in (kept, ended, gone)]
    forget[1]()
    await replace(rights)
    assert [2, 1, 0] == [work.decisions for work in (kept, ended, gone)]


async def test_what_is_undecided_ends_and_delays_no_other_tenant(
    rights: RightsWatch, autojump_clock: MockClock
) -> None:
    """A catalog that does not answer ends the work behind it in half a minute; another tenant's is decided at once."""
    hung, behind, other = Work(permitted=None), Work(), Work(permitted=False)
    for tenant, work in (("a", hung), ("a", behind), ("b", other)):
        rights.add(tenant, work.decide, work.end)
    began = trio.current_time()
    rights.authorizer.take(RULES)
    await trio.sleep(DECIDE_SECONDS / 2)
    assert [0, 0, 1] == [work.ended for work in (hung, behind, other)]
    await trio.sleep(DECIDE_SECONDS)
    assert [1, 1, 1] == [work.ended for work in (hung, behind, other)]
    assert DECIDE_SECONDS * 1.5 == trio.current_time() - began


async def test_a_bug_in_one_decision_ends_that_work_alone(rights: RightsWatch) -> None:
    """The watch goes on; a right that cannot be decided is none."""

    async def fail() -> bool:
        raise LookupError("a bug")

    broken, kept = Work(), Work()
    rights.add("a", fail, broken.end)
    rights.add("a", kept.decide, kept.end)
    await replace(rights)
    assert [1, 0] == [broken.ended, kept.ended]
    await replace(rights)
    assert 2 == kept.decisions


async def test_rules_that_are_replaced_meanwhile_are_decided_by_again(rights: RightsWatch) -> None:
    """A replacement in the middle of the decisions is not missed."""
    work = Work()

    async def decide() -> bool:
        if not work.decisions:
            rights.authorizer.take(RULES)
        return await work.decide()

    rights.add("a", decide, work.end)
    await replace(rights)
    assert 2 == work.decisions
