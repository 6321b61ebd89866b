"""Bytes of request bodies are bounded in all, and no tenant or principal takes what others need."""

from strata.tenants.budgets.body_budget import FREE_BYTES, STEP_BYTES, BodyBudget, BodyCharge

MANY = 64 * STEP_BYTES


def fill(budget: BodyBudget, tenant: str, principal: str, nbytes: int) -> list[BodyCharge]:
    """Return the charges of as many bodies of ``nbytes`` as one principal can send at a time."""
    held = []
    while (charge := budget.charge(tenant, principal)).cover(nbytes):
        held.append(charge)
    return held


def test_a_small_body_is_free() -> None:
    """A body of ordinary size is never refused for memory, however little there is."""
    budget = BodyBudget(0)
    assert budget.charge("a", "p").cover(FREE_BYTES)
    assert 0 == budget.used


def test_a_body_is_charged_in_steps_as_it_arrives() -> None:
    """A body that was announced holds nothing before it arrives; what arrived is held in whole steps."""
    budget = BodyBudget(MANY)
    charge = budget.charge("a", "p")
    held = []
    for size in (1, FREE_BYTES + 1, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES):
        assert charge.cover(size)
        held.append(budget.used)
    assert [0, STEP_BYTES, STEP_BYTES, 2 * STEP_BYTES, 3 * STEP_BYTES] == held
    charge.release()
    charge.release()
    assert (0, 0) == (budget.used, budget.held("a", "p"))


def test_a_refused_body_holds_nothing() -> None:
    """What a body held until it was refused is given back at once, since the body is dropped."""
    budget = BodyBudget(8 * STEP_BYTES)
    other, charge = budget.charge("b", "p"), budget.charge("a", "p")
    assert other.cover(STEP_BYTES)
    assert charge.cover(2 * STEP_BYTES)
    assert not charge.cover(4 * STEP_BYTES)
    assert (STEP_BYTES, 0) == (budget.used, budget.held("a"))


def test_bodies_of_one_tenant_leave_a_part_to_every_other() -> None:
    """However many bodies a tenant leaves hanging, another's is read, and they all stay within the budget."""
    budget = BodyBudget(MANY)
    for tenant in ("a", "b", "c"):
        assert fill(budget, tenant, "p", STEP_BYTES)
    assert budget.used <= MANY
    assert budget.charge("d", "p").cover(STEP_BYTES // 2)


def test_bodies_of_one_principal_leave_a_part_to_every_other_of_its_tenant() -> None:
    """Where all users are of one tenant, one user's hanging bodies do not refuse those of the others."""
    budget = BodyBudget(MANY)
    for principal in ("p", "q"):
        assert fill(budget, "default", principal, STEP_BYTES)
    assert budget.charge("default", "r").cover(STEP_BYTES)


def test_a_single_body_may_be_larger_than_the_budget() -> None:
    """A body within `max_request_bytes` is read if it is alone, however small the budget."""
    budget = BodyBudget(STEP_BYTES)
    assert budget.charge("a", "p").cover(MANY)
    assert not budget.charge("b", "p").cover(FREE_BYTES + 1)
