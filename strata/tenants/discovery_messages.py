"""The questions about tables and transforms to a tenant's actor; see :mod:`strata.tenants.messages`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from strata.auth import Principal
from strata.tables import Listed, Place, TableDescription


@attrs.frozen
class ListCatalogs:
    """List the catalogs in which the caller may read something. Answer: :class:`CatalogList`."""

    principal: Principal


@attrs.frozen
class CatalogList:
    """Catalogs.

    Attributes:
        kinds: The type of each catalog by its alias, in the aliases' order.
    """

    kinds: Mapping[str, str]


@attrs.frozen
class ListTables:
    """List the tables and views that the caller may read. Answer: :class:`TableList`.

    Attributes:
        principal: The caller.
        limit: Most tables to return, at least 1.
        catalog: The only catalog to list; ``None``: all.
        namespace: The only namespace to list, without those below it; ``None``: all.
        words: Text that each name contains, in whatever case; empty: all names.
        behind: The catalog and the place in it where the page before ended; ``None``: the first page.
        beside: Another principal that must be allowed to read them, too; ``None``: no other.
        asker: Whose identity is passed on to a catalog that takes the caller's; ``None``: ``principal``.
    """

    principal: Principal
    limit: int
    catalog: str | None = None
    namespace: tuple[str, ...] | None = None
    words: str = ""
    behind: tuple[str, Place] | None = None
    beside: Principal | None = None
    asker: Principal | None = None


@attrs.frozen
class TableList:
    """A page of tables and views.

    Attributes:
        tables: They, in the order of their catalogs, namespaces and names.
        more: Whether further ones follow.
    """

    tables: tuple[Listed, ...]
    more: bool


@attrs.frozen
class DescribeTable:
    """Describe a table, as the caller may read it. Answer: :class:`TableDescribed`.

    Attributes:
        principal: The caller.
        uri: The table's URI.
        version: ``snapshot_id``, ``ref`` or ``as_of``, as of a scan; empty: the current version.
    """

    principal: Principal
    uri: str
    version: Mapping[str, Any]


@attrs.frozen
class TableSize:
    """The size of a table's snapshot; each is ``None`` where it is not known, or not for the caller.

    Attributes:
        rows: Rows without the deleted ones.
        nbytes: Bytes of its data files.
        files: Data files.
    """

    rows: int | None = None
    nbytes: int | None = None
    files: int | None = None


@attrs.frozen
class TableDescribed:
    """A table and its size."""

    table: TableDescription
    size: TableSize


@attrs.frozen
class ListSnapshots:
    """List the snapshots of a table, the newest first. Answer: :class:`SnapshotList`.

    Attributes:
        principal: The caller.
        uri: The table's URI.
        limit: Most snapshots to return, at least 1.
        behind: Time in milliseconds since the epoch, and id, of the last snapshot of the page before.
    """

    principal: Principal
    uri: str
    limit: int
    behind: tuple[int, int] | None = None


@attrs.frozen
class SnapshotInfo:
    """A snapshot.

    Attributes:
        snapshot_id: Its id.
        parent_id: Id of the snapshot before it, if the metadata names one.
        sequence_number: Its sequence number; 0 in format version 1.
        timestamp_ms: When it was made, in milliseconds since the epoch.
        schema_id: Id of its schema, if the metadata names one.
        summary: What its writer noted of it; ``None`` for a caller who may not read all cells.
    """

    snapshot_id: int
    parent_id: int | None
    sequence_number: int
    timestamp_ms: int
    schema_id: int | None
    summary: Mapping[str, str] | None


@attrs.frozen
class SnapshotList:
    """A page of snapshots, and whether further ones follow."""

    snapshots: tuple[SnapshotInfo, ...]
    more: bool


@attrs.frozen
class ListRefs:
    """List the branches and tags of a table in the order of their names. Answer: :class:`RefList`.

    Attributes:
        principal: The caller.
        uri: The table's URI.
        limit: Most branches and tags to return, at least 1.
        behind: Name of the last one of the page before.
    """

    principal: Principal
    uri: str
    limit: int
    behind: str = ""


@attrs.frozen
class RefInfo:
    """A branch or tag.

    Attributes:
        name: Its name.
        kind: ``branch`` or ``tag``.
        snapshot_id: Id of its snapshot.
        max_ref_age_ms: Milliseconds for which it is kept, if it has a bound.
        max_snapshot_age_ms: Milliseconds for which a branch's snapshots are kept, if it has a bound.
        min_snapshots_to_keep: Snapshots of a branch that are kept, if it has a bound.
    """

    name: str
    kind: str
    snapshot_id: int
    max_ref_age_ms: int | None
    max_snapshot_age_ms: int | None
    min_snapshots_to_keep: int | None


@attrs.frozen
class RefList:
    """A page of branches and tags, and whether further ones follow."""

    refs: tuple[RefInfo, ...]
    more: bool


@attrs.frozen
class ListHistory:
    """List the changes of a table's current snapshot, the latest first. Answer: :class:`HistoryList`.

    Attributes:
        principal: The caller.
        uri: The table's URI.
        limit: Most entries to return, at least 1.
        behind: Time in milliseconds since the epoch, and snapshot, of the last entry of the page before.
    """

    principal: Principal
    uri: str
    limit: int
    behind: tuple[int, int] | None = None


@attrs.frozen
class HistoryEntry:
    """A change of a table's current snapshot.

    Attributes:
        timestamp_ms: When it happened, in milliseconds since the epoch.
        snapshot_id: Id of the snapshot that was current from then on.
        is_current_ancestor: Whether it is the present snapshot, or one that this one was made of.
    """

    timestamp_ms: int
    snapshot_id: int
    is_current_ancestor: bool


@attrs.frozen
class HistoryList:
    """A page of changes, and whether further ones follow."""

    entries: tuple[HistoryEntry, ...]
    more: bool


@attrs.frozen
class ListTransforms:
    """List the transforms that the caller may run. Answer: a tuple of ``transforms.requests.Offered``."""

    principal: Principal


@attrs.frozen
class GetBuildLog:
    """Read what the transform of a build has printed. Answer: :class:`BuildLogPart`.

    Attributes:
        principal: The caller.
        build_id: The build.
        after: Characters that the caller has already.
        wait: Seconds to wait for more, where there is none and the build goes on.
    """

    principal: Principal
    build_id: str
    after: int = 0
    wait: float = 0.0


@attrs.frozen
class BuildLogPart:
    """A part of a build's log.

    Attributes:
        start: Position of its first character; beyond the one in the question, if older ones are gone.
        text: The characters.
        ended: Whether nothing follows.
    """

    start: int
    text: str
    ended: bool


DiscoveryQuestion = (
    ListCatalogs
    | ListTables
    | DescribeTable
    | ListSnapshots
    | ListRefs
    | ListHistory
    | ListTransforms
    | GetBuildLog
)
