"""Run an executor process: listen, stop on a signal, leave nothing."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import trio

from strata.executor.sidecar.app import ExecutorApp
from strata.executor.sidecar.builds import BuildLimits, BuildRunner, DaftEngine, DaskEngine
from strata.executor.sidecar.cells import CellService
from strata.executor.sidecar.environments import Environments
from strata.executor.sidecar.pulling import Puller
from strata.http.calling.addresses import AddressRules
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve
from strata.tracing.opening import opened_tracing

ROUTES: Final = tuple(("POST", re.compile(path), path) for path in ("/v1/execute", "/v1/execute-manifest"))
"""The requests that have a span."""

GRACE_SECONDS: Final = 10.0
"""Seconds that builds under way have at a stop; then they are ended."""


async def run_executor(
    *,
    host: str,
    port: int,
    token: str | None,
    most: int,
    cells: int,
    seconds: float,
    memory_bytes: int,
    input_bytes: int,
    directory: Path | None,
    rules: AddressRules,
    daft: DaftEngine | None,
    dask: DaskEngine | None,
    environments: Environments | None,
    tracing: bool = False,
    announce: Callable[[str], object],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        host: Address to listen on.
        port: Port; 0: any.
        token: The bearer token that callers must have; None: none.
        most: Most builds at a time.
        cells: Most cells of notebooks at a time; 0: they are not run.
        seconds: Seconds that a build may take.
        memory_bytes: Bytes of memory of a build.
        input_bytes: Most bytes of all inputs of a build.
        directory: Where builds have their files; None: the system's directory for temporary files.
        rules: Which addresses the URLs of manifests may lead to.
        daft: Where ``sql@v1`` runs; None: it does not.
        dask: Where ``python@v1`` runs; None: it does not.
        environments: Makes the environments of cells; None: they have none.
        tracing: Whether to export spans, as the variables ``OTEL_*`` say.
        announce: Called with the URL when connections are accepted.

    Raises:
        TracingError: If spans cannot be exported.
        CannotListenError: If the address cannot be bound.
        DirectoryTakenError: If another executor has the directory of environments.
        OSError: If that directory cannot be used.
    """
    limits = BuildLimits(seconds=seconds, memory_bytes=memory_bytes, input_bytes=input_bytes)
    runner = BuildRunner(limits, directory, daft, dask)
    service = CellService(limits, cells, environments=environments) if cells else None
    app = ExecutorApp(runner, token, most, service, puller=Puller(runner, rules))
    try:
        if environments is not None:
            await trio.to_thread.run_sync(environments.open)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with (
                opened_tracing("strata-executor", ROUTES, enabled=tracing) as traced,
                trio.open_nursery() as nursery,
            ):
                app.tracer = traced.tracer
                stop = partial(anext, signals)
                bind = Bind(host, port, names="--host, --port")
                urls = await nursery.start(partial(serve, app, [bind], stop=stop, grace=GRACE_SECONDS))
                announce(urls[0])
    finally:
        if service is not None:
            await service.close()
        await runner.close()
        if environments is not None:
            environments.close()
