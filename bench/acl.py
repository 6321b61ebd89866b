"""Measure one decision of the access rules, by the number of rules, beside Cedar and casbin.

All three decide the same requests by the same rules in one run, taking turns, so that other load on the
machine affects all of them. Half of the requests are permitted by one rule, a quarter is denied by one,
a quarter is matched by none. Cedar's policies and casbin's are loaded before anything is measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import attrs
import casbin
import cedarpy

from strata.acl import CompiledPolicy, Policy, Request, Rule

SIZES = (10, 1_000, 10_000, 100_000)
US = 1e6
AIM_P99_US = 20.0
AIM_GROWTH = 1.5
NAMESPACES = 500
TENANTS = 100

Decide = Callable[[Request], bool]

_CASBIN_MODEL = """
[request_definition]
r = sub, tenant, obj
[policy_definition]
p = sub, tenant, obj, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = (p.sub == "*" || r.sub == p.sub) && r.tenant == p.tenant && keyMatch(r.obj, p.obj)
"""


def policy_of(size: int) -> Policy:
    """Return rules: a tenth deny a namespace to all, the others allow one person one table each."""
    deny = tuple(
        Rule("*", f"tables/main/secret{number}/*", tenant=f"t{number % TENANTS}")
        for number in range(size // 10)
    )
    allow = tuple(
        Rule(
            f"user{number}@x.org",
            f"tables/main/ns{number % NAMESPACES}/t{number}",
            tenant=f"t{number % TENANTS}",
        )
        for number in range(size - len(deny))
    )
    return Policy(deny, allow)


def requests_of(policy: Policy, count: int) -> list[tuple[Request, bool]]:
    """Return requests, each with the expected decision."""
    draw = random.Random(count)
    found = []
    for number in range(count):
        rule = draw.choice(policy.allow)
        resource, allowed = rule.resource, True
        if number % 4 == 0:
            denial = draw.choice(policy.deny)
            rule, resource, allowed = denial, denial.resource.replace("*", "t1"), False
        elif number % 4 == 1:
            resource, allowed = f"{rule.resource}x", False
        who = rule.principal if rule.principal != "*" else "user1@x.org"
        found.append((Request(who, rule.tenant or "", frozenset(), resource, "read"), allowed))
    return found


def ours(policy: Policy) -> Decide:
    """Return Strata's decision function."""
    compiled = CompiledPolicy(policy)
    return lambda request: compiled.decide(request).allowed


def cedar(policy: Policy) -> Decide:
    """Return Cedar's decision function, with its policies parsed once."""
    lines = []
    for effect, rules in (("forbid", policy.deny), ("permit", policy.allow)):
        for rule in rules:
            who = "principal" if rule.principal == "*" else f'principal == User::"{rule.principal}"'
            if "*" in rule.resource:
                what, like = "resource", f' && context.resource like "{rule.resource}"'
            else:
                what, like = f'resource == Table::"{rule.resource}"', ""
            lines.append(
                f'{effect} ({who}, action, {what}) when {{ context.tenant == "{rule.tenant}"{like} }};'
            )
    policies = cedarpy.PolicySet.from_str("\n".join(lines))
    entities = cedarpy.Entities.from_json_str("[]")

    def decide(request: Request) -> bool:
        asked = {
            "principal": {"type": "User", "id": request.principal},
            "action": {"type": "Action", "id": request.action},
            "resource": {"type": "Table", "id": request.resource},
            "context": {"tenant": request.tenant, "resource": request.resource},
        }
        return bool(cedarpy.is_authorized(asked, policies, entities).allowed)

    return decide


def casbins(policy: Policy) -> Decide:
    """Return casbin's decision function."""
    model = casbin.Enforcer.new_model(text=_CASBIN_MODEL)
    enforcer = casbin.Enforcer(model)
    enforcer.add_policies(
        [
            [rule.principal, rule.tenant, rule.resource, effect]
            for effect, rules in (("deny", policy.deny), ("allow", policy.allow))
            for rule in rules
        ]
    )
    return lambda request: bool(enforcer.enforce(request.principal, request.tenant, request.resource))


@attrs.frozen
class Figure:
    """Latency of one decision.

    Attributes:
        p50: Median, in microseconds; the median over the runs.
        p99: 99th percentile, in microseconds; the median over the runs.
        samples: Decisions measured in each run.
    """

    p50: float
    p99: float
    samples: int


def latencies(decide: Decide, asked: Sequence[tuple[Request, bool]], seconds: float) -> list[float]:
    """Time single decisions until the requests or the seconds are used up; checks every answer."""
    found = []
    end = time.perf_counter() + seconds
    for request, allowed in asked:
        began = time.perf_counter()
        said = decide(request)
        now = time.perf_counter()
        found.append((now - began) * US)
        if said is not allowed:
            raise AssertionError(f"a wrong answer to {request}")
        if now > end and len(found) >= 4:  # one of each kind of request
            break
    return found


def measure(size: int, *, runs: int, decisions: int, seconds: float) -> dict[str, Figure]:
    """Measure all three on rules of one size."""
    policy = policy_of(size)
    asked = requests_of(policy, decisions)
    engines = {"strata": ours(policy), "cedarpy": cedar(policy), "casbin": casbins(policy)}
    gc.collect()
    gc.freeze()  # otherwise garbage collection could examine all three engines' rules during one decision
    taken: dict[str, list[tuple[float, float]]] = defaultdict(list)
    counts: dict[str, int] = {}
    for _ in range(runs):
        for name, decide in engines.items():
            latencies(decide, asked[:20], seconds / 10)
            found = sorted(latencies(decide, asked, seconds))
            taken[name].append((statistics.median(found), found[min(len(found) - 1, int(len(found) * 0.99))]))
            counts[name] = len(found)
    gc.unfreeze()
    return {
        name: Figure(
            statistics.median(p50 for p50, _ in each), statistics.median(p99 for _, p99 in each), counts[name]
        )
        for name, each in taken.items()
    }


def main() -> None:
    """Measure and print; with --check exit with status 1 when an aim is missed."""
    parser = argparse.ArgumentParser(
        prog="nox -s bench_acl --", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--runs", type=int, default=5, help="how often everything is measured (5)")
    parser.add_argument("--decisions", type=int, default=20_000, help="decisions a run (20000)")
    parser.add_argument("--seconds", type=float, default=1.0, help="most seconds of an engine a run (1)")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of rules")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 when an aim is missed")
    given = parser.parse_args()
    found = {}
    for size in given.sizes:
        found[size] = measure(size, runs=given.runs, decisions=given.decisions, seconds=given.seconds)
        print(f"{size:,} rules done", file=sys.stderr, flush=True)
    aims = _aims(found)
    if given.json:
        table = {
            size: {name: attrs.asdict(one) for name, one in each.items()} for size, each in found.items()
        }
        print(json.dumps({"figures": table, "aims": [attrs.asdict(aim) for aim in aims]}, indent=2))
    else:
        _show(found, aims)
    sys.exit(1 if given.check and not all(aim.met for aim in aims) else 0)


@attrs.frozen
class Aim:
    """A promise about the figures.

    Attributes:
        what: The promise.
        value: The measured value.
        most: Maximum of the value.
        met: The value is at most the maximum.
    """

    what: str
    value: float
    most: float
    met: bool = attrs.field(init=False)

    @met.default
    def _within(self) -> bool:
        return self.value <= self.most


def _aims(found: dict[int, dict[str, Figure]]) -> list[Aim]:
    aims = []
    if 10_000 in found:  # the size of the promise
        aims.append(Aim("p99 at 10,000 rules, µs", found[10_000]["strata"].p99, AIM_P99_US))
    if {1_000, 100_000} <= set(found):
        small, large = found[1_000]["strata"], found[100_000]["strata"]
        aims.append(Aim("growth of p50 from 1,000 to 100,000 rules", large.p50 / small.p50, AIM_GROWTH))
        aims.append(Aim("growth of p99 from 1,000 to 100,000 rules", large.p99 / small.p99, AIM_GROWTH))
    return aims


def _show(found: dict[int, dict[str, Figure]], aims: Sequence[Aim]) -> None:
    print("\n| rules | engine | p50, µs | p99, µs | decisions a run | p50 of ours |")
    print("|---|---|---|---|---|---|")
    for size, each in found.items():
        for name, one in each.items():
            times = one.p50 / each["strata"].p50
            took = f"{one.p50:,.1f} | {one.p99:,.1f} | {one.samples:,} | {times:,.1f} times"
            print(f"| {size:,} | {name} | {took} |")
    print()
    for aim in aims:
        print(f"{aim.what}: {aim.value:.2f}, at most {aim.most:g}: {'met' if aim.met else 'MISSED'}")


if __name__ == "__main__":
    main()
