"""The analyses of a notebook's cells: made once a cell, kept with the revision, and joined to a graph."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from strata.auth import Principal
from strata.notebooks.graph.dependencies import MAX_EDGES, CellFacts, Graph, GraphTooLargeError, build_graph
from strata.notebooks.model.annotations import read_annotations
from strata.notebooks.model.limits import MAX_NAMES
from strata.notebooks.model.notebook import Cell, Content, too_large
from strata.notebooks.names.analyser import ANALYSER, Analysed
from strata.notebooks.names.analysis import ANALYSIS_VERSION, Analysis
from strata.outcomes import RefusalError, Refused
from strata.tenants.shared.resources import BYTES_PER_SECOND, SMALL_COST, Resources
from strata.work import Tier

VERSION: Final = f"{ANALYSIS_VERSION} {sys.version_info.major}.{sys.version_info.minor}"
"""What an analysis depends on besides the source; kept analyses of another version are made again."""

TOO_MANY_NAMES: Final = too_large(
    f"The cells of a notebook read and define at most {MAX_NAMES} names. Split it.", "cells"
)

TOO_MANY_EDGES: Final = too_large(
    f"The cells of a notebook depend on one another in at most {MAX_EDGES} ways. Split it.", "cells"
)

Analyses = Mapping[str, Analysis]
"""Analyses by id of the cell."""


def encode_analyses(analyses: Analyses) -> str:
    """Return analyses as JSON, with their version."""
    cells = {id_: one.as_json() for id_, one in analyses.items()}
    return msgspec.json.encode({"version": VERSION, "cells": cells}).decode()


def decode_analyses(text: str) -> Analyses:
    """Return the analyses of :func:`encode_analyses`; none, if they are of another version."""
    found: dict[str, Any] = msgspec.json.decode(text)
    if found["version"] != VERSION:
        return {}
    return {id_: Analysis.of_json(one) for id_, one in found["cells"].items()}


async def analyse_cells(
    resources: Resources, principal: Principal, content: Content, known: Content | None, kept: Analyses
) -> Analyses:
    """Return the analyses of a content's cells; those that did not change are kept.

    Each of the others is analysed by a child process, one of a tenant at a time: a hostile cell, which takes
    up to two seconds, holds no place of the work pool. The tenant is charged in the pool for what it took.

    Args:
        resources: The process's shared resources.
        principal: The caller, whose tenant is charged.
        content: The content.
        known: The content whose analyses are ``kept``.
        kept: Those analyses.

    Raises:
        RefusalError: TOO_LARGE if the cells have too many names, UNAVAILABLE if no process can be started.
    """
    old = {cell.id: cell for cell in known.cells} if known is not None else {}
    found: dict[str, Analysis] = {}
    names = 0
    for cell in content.cells:
        was = old.get(cell.id)
        same = was is not None and (was.language, was.source) == (cell.language, cell.source)
        analysis = kept.get(cell.id) if same else None
        if analysis is None:
            analyse = partial(ANALYSER.analyse, cell.language.value, cell.source)
            done = await resources.threads.cells.run(principal.tenant, analyse)
            await _charge(resources, principal, done)
            analysis = done.analysis
        found[cell.id] = analysis
        names += analysis.names
        if names > MAX_NAMES:
            raise RefusalError(TOO_MANY_NAMES)
    return found


def graph_of(content: Content, analyses: Analyses) -> Graph | Refused:
    """Return the graph of a content, or the refusal of one that is too large."""
    try:
        return build_graph([_facts(cell, analyses[cell.id]) for cell in content.cells])
    except GraphTooLargeError:
        return TOO_MANY_EDGES


def _facts(cell: Cell, analysis: Analysis) -> CellFacts:
    annotations = read_annotations(cell.language.value, cell.source)
    return CellFacts(
        id=cell.id, language=cell.language, analysis=analysis, annotations=annotations, name=cell.name
    )


async def _charge(resources: Resources, principal: Principal, done: Analysed) -> None:
    """Charge the tenant in the work pool for what a child process took of the processor."""
    if done.seconds:
        cost = max(SMALL_COST, int(done.seconds * BYTES_PER_SECOND))
        await resources.pool.run(
            principal.tenant, Tier.INTERACTIVE, _nothing, cost=cost, principal=principal.id
        )


def _nothing() -> None:
    """Do nothing: the turn itself is what the tenant pays with."""
