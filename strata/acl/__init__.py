"""Deny-first access rules, as a library that imports nothing else of Strata.

:func:`parse_policy` reads a configuration, :func:`evaluate` decides a :class:`Request`. A caller without a
policy must handle that itself: this package decides only by a policy.
"""

from __future__ import annotations

from .diff import Change, Difference, diff
from .evaluate import evaluate
from .expect import Expectation, Outcome, check_expectations, parse_expectations
from .explain import Considered, Counterfactual, Explanation, explain
from .index import CompiledPolicy
from .lint import Finding, lint
from .model import ACTIONS, Action, Decision, Effect, Grant, Policy, Reason, Request, Rule
from .parse import PolicyError, parse_policy
from .patterns import SCOPE_FAMILIES, caller_problem, holds_scope, resource_name
from .printing import print_policy
from .rows import Condition, parse_rows

__all__ = [
    "ACTIONS",
    "SCOPE_FAMILIES",
    "Action",
    "Change",
    "CompiledPolicy",
    "Condition",
    "Considered",
    "Counterfactual",
    "Decision",
    "Difference",
    "Effect",
    "Expectation",
    "Explanation",
    "Finding",
    "Grant",
    "Outcome",
    "Policy",
    "PolicyError",
    "Reason",
    "Request",
    "Rule",
    "caller_problem",
    "check_expectations",
    "diff",
    "evaluate",
    "explain",
    "holds_scope",
    "lint",
    "parse_expectations",
    "parse_policy",
    "parse_rows",
    "print_policy",
    "resource_name",
]
