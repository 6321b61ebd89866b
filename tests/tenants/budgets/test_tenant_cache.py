"""What actors remember is bounded in bytes, and no tenant makes another forget."""

import gc
import random

from strata.artifacts import ArtifactRecord, ArtifactState
from strata.tenants.budgets.tenant_cache import SLACK, RememberedBudget, TenantCache
from strata.tenants.retention.finished import READY_BYTES


def cache(budget: RememberedBudget, tenant: str = "a", nbytes: int = 100) -> TenantCache[str, int]:
    """Return a cache whose values are their own weights."""
    return TenantCache(budget, tenant, nbytes, int)


def record(transform: str = "{}", schema: str | None = None) -> ArtifactRecord:
    return ArtifactRecord(
        artifact_id="i", version=1, state=ArtifactState.READY, provenance_hash="p", query_hash="q",
        transform_spec=transform, input_versions="{}", created_at=0.0, arrow_schema=schema,
    )  # fmt: skip


def test_a_cache_holds_no_more_than_its_bytes() -> None:
    """The least recently used entry goes, and an entry heavier than all of it is not kept and evicts none."""
    one = cache(RememberedBudget(1000))
    one["x"], one["y"], one["z"] = 50, 40, 30
    assert ["y", "z"] == sorted(one)
    one["heavy"] = 101
    one["y"] = 101
    assert (["z"], 30) == (list(one), one.weight)


def test_the_tenant_that_holds_the_most_forgets_first() -> None:
    """A tenant that fills the memory of all loses its own oldest entries; the others keep theirs."""
    budget = RememberedBudget(160)
    small, greedy, more = cache(budget, "small"), cache(budget, "greedy"), cache(budget, "greedy")
    small["mine"] = 40
    for number in range(10):
        greedy[str(number)] = more[str(number)] = 10
    assert (["mine"], 40) == (list(small), small.get("mine"))
    assert budget.used == 40 + greedy.weight + more.weight <= 160
    assert "9" in greedy
    assert "0" not in more


def test_many_entries_at_once_never_exceed_the_budget() -> None:
    """Whatever is put where in which order, all caches together stay within the total."""
    budget, draw = RememberedBudget(1000), random.Random(7)
    caches = [cache(budget, tenant, draw.choice([50, 300, 2000])) for tenant in "abcdefgh" for _ in range(3)]
    for _ in range(3000):
        draw.choice(caches)[str(draw.randrange(50))] = draw.randrange(1, 120)
        assert budget.used <= 1000
    assert budget.used >= 1000 - 1000 // SLACK - 2 * 120


def test_the_caches_of_an_actor_that_ended_hold_nothing() -> None:
    """What an evicted tenant had remembered makes no other tenant forget."""
    budget = RememberedBudget(150)
    gone, here = cache(budget, "gone"), cache(budget, "here")
    gone["x"] = here["y"] = 70
    del gone
    gc.collect()
    assert 70 == budget.used
    here["z"] = 30
    other = cache(budget, "other")
    other["w"] = 50
    assert (["w"], ["y", "z"]) == (list(other), sorted(here))


def test_a_smaller_budget_holds_with_the_next_entry() -> None:
    """`memory_budget_bytes` may be lowered while the server runs."""
    budget = RememberedBudget(1000)
    one = cache(budget, nbytes=1000)
    for number in range(20):
        one[str(number)] = 40
    budget.total = 100
    one["more"] = 1
    assert one.weight <= 100


def test_a_record_weighs_what_its_texts_do() -> None:
    """Records with 900 KB of filter values are kept as long as 8 MiB have room, and not 4,096 of them."""
    ready: TenantCache[str, ArtifactRecord] = TenantCache(
        RememberedBudget(2**62), "a", READY_BYTES, lambda found: found.nbytes
    )
    for number in range(100):
        ready[str(number)] = record("x" * 900_000)
    assert 9 == len(ready)
    assert record("x" * 5000, "y" * 7000).nbytes >= 12_000
    assert record("x" * 5000, "y" * 7000).without_texts().nbytes < 2000
