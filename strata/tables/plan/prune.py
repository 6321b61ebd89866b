"""Decide which data files of a scan are read.

Where rows are hidden, the caller's filter must not act on them: a file that it rules out is missing from the
count of files, from the estimate of the result and from the time of the scan, and a caller that tries values
would read the hidden rows off that. So under row grants the grants' own conditions, which the caller cannot
choose, rule out any file, and the caller's filter only files of which they prove all rows visible.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.transforms import IdentityTransform

from strata.tables.plan.manifests import Entry
from strata.tables.plan.prune_by_partition import PartitionTest, partition_might_match, partition_tests
from strata.tables.plan.prune_by_statistics import metrics_might_match, metrics_must_match
from strata.tables.scan.constants import normal_constant
from strata.tables.scan.predicates import Predicate, matches_constant
from strata.tables.scan.resolve import ResolvedScan


@attrs.frozen(eq=False)
class Tests:
    """Predicates, and the tests of partition values that they imply."""

    predicates: tuple[Predicate, ...]
    partition: tuple[PartitionTest, ...]

    @classmethod
    def of(cls, predicates: tuple[Predicate, ...], spec: PartitionSpec) -> Tests:
        """Return the tests of the files of a partition spec."""
        return cls(predicates, partition_tests(predicates, spec))

    def might_match(self, entry: Entry) -> bool:
        """Return False only if no row of the file can match all predicates."""
        return partition_might_match(entry.partition, self.partition) and (
            entry.metrics is None or metrics_might_match(entry.metrics, self.predicates, entry.record_count)
        )


@attrs.frozen(eq=False)
class FileTests:
    """Tests of the data files of one partition spec.

    Attributes:
        scan: The scan.
        pruning: The scan's predicates that may rule out any file, and their partition tests.
        cautious: Its predicates that may rule out wholly visible files only, and their partition tests.
        identities: Index of the partition field by the id of the column that it repeats.
    """

    scan: ResolvedScan = attrs.field(repr=False)
    pruning: Tests
    cautious: Tests
    identities: Mapping[int, int]

    @classmethod
    def of(cls, scan: ResolvedScan, spec: PartitionSpec) -> FileTests:
        """Return the tests of the files of a partition spec."""
        identities = {
            field.source_id: position
            for position, field in enumerate(spec.fields)
            if isinstance(field.transform, IdentityTransform)
        }
        return cls(scan, Tests.of(scan.pruning, spec), Tests.of(scan.cautious, spec), identities)

    def keeps(self, entry: Entry) -> bool:
        """Test whether the file is read: it may hold rows of the result, or hidden rows are not ruled out."""
        return self.pruning.might_match(entry) and (
            not self.cautious.predicates or self.cautious.might_match(entry) or not self.proves_visible(entry)
        )

    def proves_visible(self, entry: Entry) -> bool:
        """Test whether the grants prove every row of the file visible."""
        return all(self._holds(entry, one) for one in self.scan.forced) and all(
            any(all(self._holds(entry, one) for one in option) for option in clause)
            for clause in self.scan.clauses
        )

    def _holds(self, entry: Entry, predicate: Predicate) -> bool:
        """Test whether every row of the file is known to satisfy a predicate."""
        position = self.identities.get(predicate.field_id)
        if position is not None and position < len(entry.partition):
            value = normal_constant(predicate.kind, entry.partition[position])
            same_type = all(type(value) is type(literal) for literal in predicate.literals)
            if (value is None or same_type) and matches_constant(predicate, value):
                return True
        return entry.metrics is not None and metrics_must_match(entry.metrics, predicate, entry.record_count)
