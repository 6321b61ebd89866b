"""List the catalogs and tables that a caller may read; others are in no answer, and change none.

A page has ``limit`` tables while there are further ones for the caller: a shorter page would tell of hidden
tables. So parts of a catalog are read until the page is full. A catalog of which the rules allow the caller
nothing is not queried, so not even its failures are seen.
"""

from __future__ import annotations

from functools import partial

import attrs
import trio

from strata import acl
from strata.auth import Principal
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import KnownNamespaces, Listed, Part, Place, TableRef, list_part, table_uri
from strata.tenants import discovery_messages as m
from strata.tenants.shared.authorizer import table_resource
from strata.tenants.shared.resources import Resources
from strata.work.waiting_threads import current_interrupt

PART = 500
"""Most tables of a catalog read at a time, and decided on without a checkpoint: 5 ms at most."""

SECONDS = 45.0
"""Seconds that a page may take; then it is refused with TIMED_OUT."""

CATALOG_NOT_FOUND = Refused(Reason.NOT_FOUND, "Catalog not found", loc=("query", "catalog"))

TOO_SLOW = Refused(
    Reason.TIMED_OUT,
    f"Listing took longer than {SECONDS:g} seconds: name a catalog and a namespace.",
    code="listing_timeout",
)

_ANY = "-"


@attrs.define(eq=False)
class TableLister:
    """Lists what a caller of one tenant may read.

    Attributes:
        tenant: The tenant.
        resources: The process's shared resources.
        known: The namespaces of catalog servers that the tenant has just listed.
    """

    tenant: str
    resources: Resources
    known: KnownNamespaces

    async def catalogs(self, question: m.ListCatalogs) -> m.CatalogList:
        """List the catalogs of which the rules allow the caller a table."""
        kinds = self.resources.catalogs.kinds()
        return m.CatalogList({alias: kinds[alias] for alias in await self._reached(question.principal)})

    async def tables(self, question: m.ListTables) -> m.TableList | Refused:
        """List a page of tables and views."""
        authorizer = self.resources.authorizer
        with trio.move_on_after(SECONDS):
            while True:
                policy = authorizer.policy
                answer = await self._tables(question)
                if authorizer.policy is policy:  # else some were decided by the rules of before
                    return answer
        return TOO_SLOW

    async def _tables(self, question: m.ListTables) -> m.TableList | Refused:
        aliases = await self._reached(question.principal)
        if question.catalog is not None:
            aliases = [alias for alias in aliases if alias == question.catalog]
            if not aliases:
                return CATALOG_NOT_FOUND
        first, behind = question.behind or ("", Place())
        found: list[Listed] = []
        for alias in aliases:
            place, most = behind if alias == first else Place(), 0
            while alias >= first and len(found) <= question.limit:
                # One more than the page tells whether there are further ones.
                more = question.limit + 1 - len(found)
                most = min(PART, max(more, 2 * most))  # the more are not for the caller, the longer the part
                part = await self._part(question, alias, place, most)
                found += [one for one in part.found if self._chosen(question, one)]
                if part.following is None:
                    break
                place = part.following
        return m.TableList(tuple(found[: question.limit]), len(found) > question.limit)

    async def _part(self, question: m.ListTables, alias: str, behind: Place, most: int) -> Part:
        who = question.asker or question.principal
        any_table = self.resources.catalogs.asked_by(TableRef(alias, (_ANY,), _ANY), who.tenant, who.id)
        ask = partial(_ask, self.resources, question, any_table, behind, most=most, known=self.known)
        threads = self.resources.threads.of_catalog(any_table)
        part = await threads.run(self.tenant, ask)
        if isinstance(part, Refused):
            raise RefusalError(part)
        return part

    def _chosen(self, question: m.ListTables, one: Listed) -> bool:
        name = ".".join((*one.ref.namespace, one.ref.table))
        if question.words and question.words.casefold() not in name.casefold():
            return False
        if table_uri(one.ref) is None:
            return False
        resource = table_resource(one.ref)
        callers = (question.principal,) if question.beside is None else (question.principal, question.beside)
        return all(self.resources.authorizer.permits(who, resource, "read") for who in callers)

    async def _reached(self, principal: Principal) -> list[str]:
        """Return the aliases of the catalogs of which the rules allow the caller something, in order."""
        aliases, authorizer = tuple(self.resources.catalogs.kinds()), self.resources.authorizer
        if authorizer.policy is None:
            return list(aliases)

        def choose() -> list[str]:
            resources = ((alias, acl.resource_name("tables", alias, _ANY, _ANY)) for alias in aliases)
            return [alias for alias, resource in resources if authorizer.reaches(principal, resource, 2)]

        return await self.resources.compute(self.tenant, principal.id, choose)


def _ask(
    resources: Resources,
    question: m.ListTables,
    any_table: TableRef,
    behind: Place,
    *,
    most: int,
    known: KnownNamespaces,
) -> Part | Refused:
    """Read a part of a catalog; blocking. Namespaces of which the rules allow nothing are passed over."""
    authorizer, interrupt = resources.authorizer, current_interrupt()

    def enter(namespace: tuple[str, ...]) -> bool:
        name = ".".join(namespace)
        return bool(name) and authorizer.reaches(
            question.principal, acl.resource_name("tables", any_table.catalog, name, _ANY), 1
        )

    return list_part(
        resources.catalogs,
        any_table,
        namespace=question.namespace,
        behind=behind,
        most=most,
        enter=enter,
        stopped=lambda: interrupt.requested,
        known=known,
    )
