"""Deny-first access rules as a library of its own: it imports nothing of Strata.

:func:`parse_policy` reads a configuration, :func:`evaluate` decides a :class:`Request`. Having no policy at
all is the caller's case to handle: this package only answers for a policy that exists.
"""

from __future__ import annotations

from .evaluate import evaluate
from .explain import Considered, Counterfactual, Explanation, explain
from .index import CompiledPolicy
from .model import ACTIONS, Action, Decision, Effect, Grant, Policy, Reason, Request, Rule
from .parse import PolicyError, parse_policy
from .patterns import SCOPE_FAMILIES, holds_scope, resource_name
from .rows import Condition, parse_rows

__all__ = [
    "ACTIONS",
    "SCOPE_FAMILIES",
    "Action",
    "CompiledPolicy",
    "Condition",
    "Considered",
    "Counterfactual",
    "Decision",
    "Effect",
    "Explanation",
    "Grant",
    "Policy",
    "PolicyError",
    "Reason",
    "Request",
    "Rule",
    "evaluate",
    "explain",
    "holds_scope",
    "parse_policy",
    "parse_rows",
    "resource_name",
]
