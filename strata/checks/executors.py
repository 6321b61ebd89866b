"""Ask the executors that the settings name how they are."""

from __future__ import annotations

from urllib.parse import urlsplit

import trio

from strata.config import Settings
from strata.config.fields import EMBEDDED
from strata.config.sections.notebook_workers import workers_of
from strata.config.sections.transforms import transforms_of
from strata.executor.protocol.client import Executor, ExecutorError


def executor_warnings(settings: Settings) -> list[str]:
    """Return a warning for each executor that does not answer, or not as a healthy one. Blocking.

    All get the request at the same time, without a token; one that several entries name gets one.
    """
    entries = [
        (f"transforms.registry[{place}] ({entry.ref})", entry.executor_url)
        for place, entry in enumerate(transforms_of(settings))
    ]
    entries += [(f"notebook_workers ({worker.name})", worker.url) for worker in workers_of(settings)]
    urls = sorted({url for _, url in entries if url != EMBEDDED})
    failures = trio.run(_asked, urls) if urls else {}
    return [f"{name}: {failures[url]}" for name, url in entries if url in failures]


async def _asked(urls: list[str]) -> dict[str, str]:
    failures: dict[str, str] = {}

    async def ask(url: str) -> None:
        try:
            await Executor(url).health()
        except ExecutorError as error:
            place = urlsplit(url)
            shown = f"{place.scheme}://{place.hostname}{f':{place.port}' if place.port else ''}"
            failures[url] = f"{shown} ({error.code}): {error}"

    async with trio.open_nursery() as nursery:
        for url in urls:
            nursery.start_soon(ask, url)
    return failures
