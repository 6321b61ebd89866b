"""Lineage names each input once, and nothing behind an input the caller may not read."""

from __future__ import annotations

import json

import attrs
import pytest

from strata.artifacts import ArtifactRecord, ArtifactState
from strata.tenants.messages import Edge
from strata.tenants.results import lineage
from strata.tenants.results.lineage import trace, uri_of


def artifact(name: str, **inputs: str) -> ArtifactRecord:
    return ArtifactRecord(
        artifact_id=name,
        version=1,
        state=ArtifactState.READY,
        provenance_hash=name,
        query_hash=name,
        transform_spec=json.dumps({"executor": "join@v1", "params": {}}),
        input_versions=json.dumps(inputs),
        created_at=1.0,
    )


def uri(name: str) -> str:
    return f"strata://artifact/{name}@v=1"


@attrs.define
class World:
    """Artifacts by URI; hidden ones exist and may not be read by the caller."""

    records: dict[str, ArtifactRecord] = attrs.field(factory=dict)
    hidden: set[str] = attrs.field(factory=set)
    asked: list[str] = attrs.field(factory=list)

    def add(self, name: str, **inputs: str) -> ArtifactRecord:
        record = attrs.evolve(artifact(name), input_versions=json.dumps(inputs))
        self.records[uri_of(record)] = record
        return record

    async def look(self, named: str):
        self.asked.append(named)
        if named in self.hidden:
            return "redacted"
        return self.records.get(named, "table")


@pytest.fixture
def world() -> World:
    """Return report from join and rates; join from two tables; rates from a table and a hidden one."""
    found = World()
    found.add("join", **{"wh:a": "1", "wh:b": "2"})
    found.add("rates", **{"wh:b": "2", "wh:secret": "3"})
    found.add("report", **{uri("join"): "v1", uri("rates"): "v1"})
    return found


async def test_inputs_are_followed_to_the_tables(world: World) -> None:
    """Each node is listed once, with an edge from every input to its result."""
    found = await trace(world.records[uri("report")], world.look, 10)
    assert [uri("report"), uri("join"), uri("rates"), "wh:a", "wh:b", "wh:secret"] == [
        n.uri for n in found.nodes
    ]
    assert ["artifact"] * 3 + ["table"] * 3 == [node.type for node in found.nodes]
    assert (2, (uri("join"), uri("rates")), False) == (found.depth, found.direct, found.truncated)
    assert Edge("wh:b", uri("rates"), "2") in found.edges
    assert 6 == len(found.edges)


async def test_depth_ends_where_it_is_asked_to(world: World) -> None:
    """Nothing beyond the requested depth is read."""
    found = await trace(world.records[uri("report")], world.look, 1)
    assert (1, 3) == (found.depth, len(found.nodes))
    assert [uri("join"), uri("rates")] == world.asked


async def test_what_is_not_for_the_caller_has_no_name_no_version_and_nothing_behind_it(world: World) -> None:
    """A hidden input is a node without name, version or inputs."""
    world.hidden = {uri("rates"), "wh:a"}
    found = await trace(world.records[uri("report")], world.look, 10)
    told = repr((found.nodes, found.edges, found.direct))
    assert "rates" not in told
    assert "wh:a" not in told
    assert "wh:secret" not in world.asked
    redacted = [node for node in found.nodes if node.type == "redacted"]
    assert [("redacted:1", None, None, None, None), ("redacted:2", None, None, None, None)] == [
        (n.uri, n.artifact_id, n.version, n.transform_ref, n.created_at) for n in redacted
    ]
    assert Edge("redacted:1", uri("report"), None) in found.edges


async def test_a_circle_ends() -> None:
    """Circular inputs, possible only in a damaged store, are listed once."""
    world = World()
    world.add("one", **{uri("two"): "v1"})
    world.add("two", **{uri("one"): "v1"})
    found = await trace(world.records[uri("one")], world.look, 100)
    assert (2, 2) == (len(found.nodes), len(found.edges))


async def test_an_answer_has_a_most_and_says_when_there_is_more(monkeypatch) -> None:
    """A lineage cut at the maximum says that it is incomplete."""
    monkeypatch.setattr(lineage, "MOST_NODES", 3)
    world = World()
    root = world.add("wide", **{f"wh:{number}": "1" for number in range(5)})
    found = await trace(root, world.look, 10)
    assert (3, True) == (len(found.nodes), found.truncated)
