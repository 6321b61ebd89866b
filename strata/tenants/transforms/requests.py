"""Answer requests for transforms: what may be run, what a request asks for, and its identity."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any

import attrs
import trio

from strata import acl
from strata.artifacts import canonical_json, provenance_hash, query_hash
from strata.auth import Principal
from strata.config.fields import SIGNED
from strata.config.sections.transforms import SQL
from strata.outcomes import Refused
from strata.tenants import messages as m
from strata.tenants.builds.materialize import Materializer
from strata.tenants.builds.provenance import MAX_TRANSFORM_BYTES, TRANSFORM_TOO_LARGE, Provenance
from strata.tenants.builds.runner import Order
from strata.tenants.discovery_messages import ListTransforms
from strata.tenants.limits.model import TenantLimits
from strata.tenants.results.read import Reader
from strata.tenants.shared.authorizer import artifact_resource
from strata.tenants.transforms.inputs import Input, InputResolver
from strata.tenants.transforms.pulled import PullOrder
from strata.tenants.transforms.remote import RemoteOrder
from strata.tenants.transforms.run import SqlOrder
from strata.transforms.registry import NOT_ALLOWED, Offer, find, offers
from strata.transforms.sql_params import SqlSpec, check_inputs, parse_sql_params
from strata.transforms.sql_settings import ENGINE, RESULT_SETTINGS


@attrs.frozen
class Offered:
    """A transform that the caller may run, and the limits of the tenant.

    Attributes:
        offer: The transform, with the limits of its entry in the registry.
        limits: The tenant's limits.
    """

    offer: Offer
    limits: TenantLimits

    @property
    def max_output_bytes(self) -> int:
        """Most Arrow bytes of a result: the lower of both limits."""
        own, most = self.offer.registered.max_output_bytes, self.limits.max_response_bytes
        return min(own, most) if own else most


@attrs.frozen(eq=False)
class Transforms:
    """Answers ``Materialize``, ``Explain`` and ``ListTransforms`` for the transforms of one tenant.

    Attributes:
        looking: Bounds how many queries of the tenant are looked at, before they are run, at once.
    """

    tenant: str
    materializer: Materializer
    reader: Reader
    looking: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, 1), init=False)

    async def materialize(self, question: m.Materialize) -> m.Materialized | Refused:
        """Find a result, join its build, or begin one."""
        authorizer = self.materializer.resources.authorizer
        if question.name is not None and authorizer.denies(
            question.principal, artifact_resource(question.name), "write"
        ):
            return authorizer.forbidden("write")
        order = await self._order(question.principal, question.what, question.name)
        return order if isinstance(order, Refused) else await self.materializer.give(question, order)

    async def explain(self, question: m.Explain) -> m.Explanation | Refused:
        """Say what :meth:`materialize` would do."""
        order = await self._order(question.principal, question.what, question.name)
        if isinstance(order, Refused):
            return order
        return await self.materializer.foresee(question, order.provenance)

    async def offers(self, question: ListTransforms) -> tuple[Offered, ...]:
        """List the transforms the caller may run."""
        registry, limits = self.materializer.resources.transforms.registry, self.materializer.builder.limits
        return tuple(
            Offered(offer, limits)
            for offer in offers(registry, question.principal)
            if not self._denies(question.principal, offer.ref)
        )

    def _denies(self, principal: Principal, ref: str) -> bool:
        authorizer = self.materializer.resources.authorizer
        return authorizer.denies(principal, acl.resource_name("transforms", ref), "run")

    async def _order(self, principal: Principal, what: m.Transformation, name: str | None) -> Order | Refused:
        registry = self.materializer.resources.transforms.registry
        if self._denies(principal, what.executor):
            return NOT_ALLOWED
        registered = find(registry, what.executor, principal)
        if isinstance(registered, Refused):
            return registered
        params = what.params
        spec = parse_sql_params(params, what.inputs) if what.executor == SQL else check_inputs(what.inputs)
        if isinstance(spec, Refused):
            return spec
        inputs = await InputResolver(self.materializer, self.reader).resolve(principal, what.inputs)
        if isinstance(inputs, Refused):
            return inputs
        secret = self.materializer.resources.authorizer.secret
        if spec is not None and registered.embedded:
            provenance = sql_provenance(secret, self.tenant, what.executor, spec, inputs)
        else:
            identity = params if spec is None else spec.canonical()
            provenance = remote_provenance(secret, self.tenant, what.executor, identity, inputs)
        if len(provenance.transform) > MAX_TRANSFORM_BYTES:
            return TRANSFORM_TOO_LARGE
        common: dict[str, Any] = {
            "provenance": provenance,
            "executor": what.executor,
            "name": name,
            "principal": principal.id,
            "caller": principal,
            "inputs": inputs,
            "registered": registered,
            "materializer": self.materializer,
        }
        if spec is not None and registered.embedded:
            return SqlOrder(spec=spec, looking=self.looking, **common)
        kind = PullOrder if registered.transport == SIGNED else RemoteOrder
        return kind(params=params, **common)


def sql_provenance(
    secret: bytes, tenant: str, executor: str, spec: SqlSpec, inputs: tuple[Input, ...]
) -> Provenance:
    """Return the identity of a query's result, under the store's secret.

    It is made of the tenant, the query, the names and the order of the inputs, their versions with the cells
    that the caller may read, the engine with its version, and the settings that change results.
    """
    transform = {
        "executor": executor,
        "params": spec.canonical(),
        "engine": f"{ENGINE} {_engine_version()}",
        "settings": dict(RESULT_SETTINGS),
    }
    return _provenance(secret, tenant, transform, inputs)


def remote_provenance(
    secret: bytes, tenant: str, executor: str, params: Mapping[str, Any], inputs: tuple[Input, ...]
) -> Provenance:
    """Return the identity of the result of an executor's transform, under the store's secret.

    It is made of the tenant, the transform with its version, the parameters, and the inputs as for a query;
    where the executor is, and its token, are no part of it.
    """
    transform = {"executor": executor, "params": dict(params), "engine": "executor v1"}
    return _provenance(secret, tenant, transform, inputs)


def _provenance(
    secret: bytes, tenant: str, transform: Mapping[str, object], inputs: tuple[Input, ...]
) -> Provenance:
    return Provenance(
        key=provenance_hash(secret, tenant, transform, [one.identity for one in inputs]),
        query=query_hash(secret, tenant, transform, [one.query for one in inputs]),
        transform=canonical_json(transform),
        inputs=tuple((one.uri, one.version) for one in inputs),
    )


@lru_cache(1)
def _engine_version() -> str:
    return version(ENGINE)
