"""Names in the database: they belong to a principal, and each change is written with its audit record."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from strata.artifacts.database.schema import aliases, audit, names
from strata.artifacts.metadata.records import Act, AuditRecord, NameOrder, NameRecord
from strata.artifacts.metadata.rows import name_record
from strata.outcomes import Reason, Refused

ALIAS_SIGN: Final = "@"
"""Separates a name and an alias of it in a URI."""

SET_NAME: Final = "name.set"
DROP_NAME: Final = "name.delete"
SET_ALIAS: Final = "alias.set"
DROP_ALIAS: Final = "alias.delete"
REQUEST_SET: Final = "alias.request_set"
REQUEST_DROP: Final = "alias.request_delete"
APPROVE: Final = "alias.approved"
REJECT: Final = "alias.rejected"
SET_TAG: Final = "tag.set"
DROP_TAG: Final = "tag.delete"
PIN: Final = "artifact.pin"
UNPIN: Final = "artifact.unpin"
PUT: Final = "artifact.put"
REMOVE: Final = "artifact.delete"

ACTIONS: Final = frozenset(
    {
        *(SET_NAME, DROP_NAME, SET_ALIAS, DROP_ALIAS, REQUEST_SET, REQUEST_DROP, APPROVE, REJECT),
        *(SET_TAG, DROP_TAG, PIN, UNPIN, PUT, REMOVE),
    }
)
"""The actions on one result each, as the audit has them: the changes of the registry."""

NAME_OWNED: Final = Refused(
    Reason.FORBIDDEN,
    "The name belongs to another principal. A rule that allows this caller to write the name, or the setting "
    "artifact_names_shared, permits the change.",
    code="name_owned",
)
NAME_IS_ALIAS: Final = Refused(
    Reason.CONFLICT,
    "The part of this name before its last @ has an alias of the rest; both would have the same URI.",
    code="name_is_alias",
)


def may_move(owner: str | None, order: NameOrder) -> bool:
    """Whether an order may change what belongs to ``owner``."""
    return owner is None or owner == order.act.principal or order.others


def put_name(
    connection: sa.Connection, tenant: str, order: NameOrder, target: tuple[str, int], at: float
) -> NameRecord | Refused:
    """Point a name at a version that the transaction knows to be ready; the name keeps its owner."""
    called = sa.and_(names.c.tenant == tenant, names.c.name == order.name)
    row = connection.execute(sa.select(names).where(called).with_for_update()).first()
    if row is not None and not may_move(row.owner, order):
        return NAME_OWNED
    if row is None and _is_alias(connection, tenant, order.name):
        return NAME_IS_ALIAS
    owner = order.act.principal if row is None or row.owner is None else row.owner
    record = NameRecord(order.name, *target, at, owner=owner)
    upsert(connection, names, {"tenant": tenant, **attrs.asdict(record)})
    old = None if row is None else state_of(name_record(row))
    note(connection, attrs.evolve(order.act, old=old, new=state_of(record)), at)
    return record


def state_of(record: NameRecord) -> str:
    """Return a name and the version it points at as the text of an audit record."""
    return state(name=record.name, artifact_id=record.artifact_id, version=record.version)


def state(**parts: str | int | None) -> str:
    """Return a state before or after an act as the text of an audit record, without parts ``None``."""
    return json.dumps({key: value for key, value in parts.items() if value is not None})


def with_subject(act: Act) -> Act:
    """Return an act on a result with the name and the artifact that its states tell."""
    if act.action not in ACTIONS:
        return act
    for text in (act.new, act.old):
        told = {} if text is None else json.loads(text)
        act = attrs.evolve(
            act, name=act.name or told.get("name"), artifact_id=act.artifact_id or told.get("artifact_id")
        )
    return act


def note(connection: sa.Connection, act: Act, at: float) -> AuditRecord:
    """Add an audit record to the transaction."""
    act = with_subject(act)
    added = connection.execute(audit.insert().values(at=at, **attrs.asdict(act)))
    assert added.inserted_primary_key is not None
    return AuditRecord(added.inserted_primary_key[0], at, act)


def upsert(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> None:
    """Insert a row, or replace the values of the one with its primary key."""
    build = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    keys = [column.name for column in table.primary_key]
    changed = {name: value for name, value in values.items() if name not in keys}
    statement = build(table).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))


def _is_alias(connection: sa.Connection, tenant: str, name: str) -> bool:
    """Whether a name is written as an alias of another name that exists."""
    base, sign, alias = name.rpartition(ALIAS_SIGN)
    if not sign:
        return False
    same = (aliases.c.tenant == tenant, aliases.c.name == base, aliases.c.alias == alias)
    return connection.execute(sa.select(aliases.c.name).where(*same)).first() is not None
