"""Read what transforms print, while they are built and for some time afterwards."""

from __future__ import annotations

import attrs
import trio

from strata.outcomes import Refused
from strata.tenants.builds.materialize import Materializer
from strata.tenants.discovery_messages import BuildLogPart, GetBuildLog
from strata.tenants.messages import GetBuild
from strata.tenants.results.read import Reader
from strata.tenants.stats.build_log import BuildLog

LONGEST_WAIT_SECONDS = 20.0
"""Most seconds that a reader can wait for more of a log; below every proxy's patience."""


@attrs.frozen(eq=False)
class LogReader:
    """Answers :class:`GetBuildLog` for one tenant."""

    materializer: Materializer
    reader: Reader

    async def read(self, question: GetBuildLog) -> BuildLogPart | Refused:
        """Return the log from a position on, to callers that may read the build before and after the wait."""
        asked = GetBuild(question.principal, question.build_id)
        found = await self.reader.get_build(asked)
        if isinstance(found, Refused):
            return found
        log = self._log(question.build_id)
        if log is None:
            return BuildLogPart(question.after, "", ended=True)
        if question.wait > 0 and log.end <= question.after and not log.ended:
            with trio.move_on_after(min(question.wait, LONGEST_WAIT_SECONDS)):
                await log.beyond(question.after)
            found = await self.reader.get_build(asked)
            if isinstance(found, Refused):
                return found
        start, text = log.after(question.after)
        return BuildLogPart(start, text, ended=log.ended)

    def _log(self, build_id: str) -> BuildLog | None:
        running = self.materializer.by_id.get(build_id)
        return self.materializer.logs.get(build_id) if running is None else running.log
