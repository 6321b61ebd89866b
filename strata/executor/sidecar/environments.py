"""Make the environments of notebooks: locked wheels, each set in a directory that no cell can change.

No code of a package runs here: ``uv`` unpacks wheels whose hashes the lock has, and builds nothing from
source; what a package does when it is imported, it does in the sandboxed process of a cell.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import structlog
import trio
from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

from strata.config.sections.notebook_environments import Lock, LockError, parse_lock, plain_name
from strata.executor.sidecar import environment_files as files
from strata.executor.sidecar.environment_files import PACKAGES

BUILDS: Final = 2
"""Environments that are made at a time; the cells of others wait."""

FAILED_SECONDS: Final = 30.0
"""Seconds for which an environment that could not be made is not tried again: it takes no other's turn."""

LOOK_SECONDS: Final = 0.2
"""Seconds between two looks at the bytes of an environment that is made."""

SAID_CHARACTERS: Final = 600
"""Characters of uv's own words in an error; the beginning is cut."""

KNOWN_SECONDS: Final = 120.0
"""Seconds to find out which packages the processes of cells have loaded."""

_URL: Final = re.compile(r"\w+://\S+")
_LOADED: Final = (
    "import sys; sys.path[:] = sys.argv[1:]\n"
    "import json, strata.cells.program\n"
    "strata.cells.program.load_plain()\n"
    "from importlib.metadata import packages_distributions, version\n"
    "of = packages_distributions()\n"
    "tops = {one.partition('.')[0] for one in sys.modules if one[0] != '_'}\n"
    "names = {name for top in tops for name in of.get(top, ())}\n"
    "print(json.dumps({name: version(name) for name in names}))"
)

log = structlog.get_logger(__name__)


class EnvironmentUnusableError(Exception):
    """An environment cannot be made; the message is a sentence for the author of the cell."""


@attrs.frozen
class Index:
    """Where packages come from, and nowhere else.

    Attributes:
        url: URL of an index (PEP 503); None: there is none.
        directories: Directories with wheels.
    """

    url: str | None = attrs.field(default=None, repr=False)
    directories: Sequence[Path] = ()

    def options(self) -> list[str]:
        """Return the options of uv."""
        return [
            *(["--no-index"] if self.url is None else []),
            *(f"--find-links={one.absolute()}" for one in self.directories),
        ]

    def variables(self) -> dict[str, str]:
        """Return the environment variables of uv: the URL may hold a password, and all users see options."""
        return {} if self.url is None else {"UV_DEFAULT_INDEX": self.url}


@attrs.frozen
class EnvironmentLimits:
    """The limits of environments.

    Attributes:
        seconds: Seconds in which one is made, its turn aside.
        nbytes: Bytes of one.
        total_bytes: Bytes of all; beyond them those go that were unused for longest.
    """

    seconds: float = 300.0
    nbytes: int = 4 << 30
    total_bytes: int = 20 << 30


@attrs.define(eq=False)
class Environments:
    """The environments of an executor.

    Each has the directory of its lock's hash and of this interpreter, so it is the same for all tenants whose
    locks are equal: cells may read it only, and its files are those whose hashes the lock has.

    Attributes:
        root: Directory with a directory for each.
        index: Where packages come from.
        limits: Their limits.
        made: Bytes of each by the name of its directory, the one unused for longest first.
    """

    root: Path
    index: Index
    limits: EnvironmentLimits = attrs.field(factory=EnvironmentLimits)
    made: OrderedDict[str, int] = attrs.field(factory=OrderedDict)
    _users: dict[str, int] = attrs.field(factory=lambda: defaultdict(int))
    _making: dict[str, trio.Lock] = attrs.field(factory=dict)
    _turns: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, BUILDS))
    _of_tenants: dict[str | None, trio.CapacityLimiter] = attrs.field(factory=dict)
    _loaded: Mapping[str, str] | None = None
    _held: int | None = None
    _failed: dict[str, tuple[float, str]] = attrs.field(factory=dict)

    def open(self) -> None:
        """Find the environments that there are, and remove what is left of others; blocking.

        Raises:
            DirectoryTakenError: If another executor has the directory.
            OSError: If the directory cannot be used.
        """
        self._held = files.take(self.root)
        self.made.update(files.find(self.root))

    def close(self) -> None:
        """Leave the directory to others."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    @asynccontextmanager
    async def using(self, lock: Lock, tenant: str | None = None) -> AsyncIterator[Path]:
        """Hold an environment, which is made if need be; yields the folder of its packages.

        One of a tenant's is made at a time: a tenant with many slow ones leaves a turn to others.

        Raises:
            EnvironmentUnusableError: If it cannot be made.
        """
        name = f"{lock.key}-{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
        await self._check(
            lock
        )  # of one that is there already, too: the executor may have been upgraded since
        with self._counted(name):
            async with self._making.setdefault(name, trio.Lock()):
                if name not in self.made:
                    await self._tried(name, lock, tenant)
            self.made.move_to_end(name)
            with suppress(OSError):  # its time is for the order after a restart only
                await trio.to_thread.run_sync(os.utime, self.root / name / files.DONE)
            yield self.root / name / PACKAGES

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        """Count a user of an environment: it is not removed meanwhile."""
        self._users[name] += 1
        try:
            yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
                self._making.pop(name, None)

    async def _tried(self, name: str, lock: Lock, tenant: str | None) -> None:
        """Make an environment, unless that has just failed.

        Raises:
            EnvironmentUnusableError: If it cannot be made.
        """
        now = trio.current_time()
        self._failed = {key: one for key, one in self._failed.items() if now < one[0] + FAILED_SECONDS}
        if name in self._failed:
            raise EnvironmentUnusableError(self._failed[name][1])
        try:
            async with self._turn_of(tenant), self._turns:
                await self._make(name, lock)
        except EnvironmentUnusableError as error:
            self._failed[name] = (trio.current_time(), str(error))
            raise

    @asynccontextmanager
    async def _turn_of(self, tenant: str | None) -> AsyncIterator[None]:
        """Hold the one turn that a tenant has at a time; those without a tenant's name share one."""
        turn = self._of_tenants.setdefault(tenant, trio.CapacityLimiter(1))
        try:
            async with turn:
                yield
        finally:
            if not turn.borrowed_tokens and not turn.statistics().tasks_waiting:
                self._of_tenants.pop(tenant, None)

    async def _make(self, name: str, lock: Lock) -> None:
        part = await trio.to_thread.run_sync(partial(tempfile.mkdtemp, prefix="part-", dir=self.root))
        directory = Path(part)
        try:
            await self._install(directory, lock)
            nbytes = await trio.to_thread.run_sync(files.bytes_of, directory / PACKAGES)
            if nbytes > self.limits.nbytes:
                raise self._too_large()
            await trio.to_thread.run_sync(files.finish, directory, self.root / name, nbytes)
        except OSError as error:
            log.warning("an environment cannot be kept", error=type(error).__name__)
            raise EnvironmentUnusableError("The executor's disk does not take the environment now.") from None
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(files.remove_tree, directory)
        self.made[name] = nbytes
        log.info("an environment was made", key=lock.key, bytes=nbytes)
        await self._evict()

    async def _check(self, lock: Lock) -> None:
        """Refuse a lock with other versions of what the processes of cells have loaded before it.

        What its markers leave to other machines is not compared: it is not installed here.

        Raises:
            EnvironmentUnusableError: If it has one.
        """
        loaded = await self.loaded()
        for name, version in lock.versions.items():
            if loaded.get(name, version) != version and _installed_here(lock.markers.get(name)):
                raise EnvironmentUnusableError(
                    f"The environment has {name} {version}, and the processes of cells on this executor have "
                    f"{loaded[name]}. Lock it by `strata executor lock`, which takes the executor's version."
                )

    async def loaded(self) -> Mapping[str, str]:
        """Return the version by name of the packages that the processes of cells have loaded.

        Raises:
            EnvironmentUnusableError: If that cannot be found out.
        """
        if self._loaded is None:
            run = partial(
                subprocess.run,
                [sys.executable, "-I", "-c", _LOADED, *filter(None, sys.path)],
                capture_output=True,
                env={"LC_ALL": "C.UTF-8"},
                cwd="/",
                timeout=KNOWN_SECONDS,
                check=True,
            )
            try:
                said = (await trio.to_thread.run_sync(run)).stdout
                self._loaded = {plain_name(name): version for name, version in json.loads(said).items()}
            except (OSError, subprocess.SubprocessError, ValueError):
                log.exception("the packages of cells cannot be listed")
                raise EnvironmentUnusableError("The executor cannot make environments now.") from None
        return self._loaded

    async def _install(self, directory: Path, lock: Lock) -> None:
        """Have uv unpack the wheels of a lock.

        Raises:
            EnvironmentUnusableError: If it does not in time, within its bytes, or at all.
        """
        scratch = directory / "scratch"
        scratch.mkdir()
        requirements = scratch / "requirements.txt"
        requirements.write_text(lock.requirements)
        command = [
            *(find_uv(), "pip", "install", "--python", sys.executable, "--target", str(directory / PACKAGES)),
            *("--requirements", str(requirements), "--require-hashes", "--no-deps", "--no-build"),
            *("--no-config", "--no-cache", "--link-mode", "copy", "--compile-bytecode", "--no-progress"),
            *("--quiet", "--color", "never", *self.index.options()),
        ]
        code, said = None, ""
        with trio.move_on_after(self.limits.seconds):
            code, said = await self._run(command, scratch, directory)
        await trio.to_thread.run_sync(files.remove_tree, scratch)
        if code is None:
            raise EnvironmentUnusableError(
                f"The environment was not made within {self.limits.seconds:g} s, the executor's limit "
                "(--environment-seconds)."
            )
        if code:
            words = self._plain(said, directory)
            raise EnvironmentUnusableError(
                "The environment cannot be made of the executor's index, from wheels with the hashes of the "
                f"lock: {words or 'uv failed without a word'}"
            )

    async def _run(self, command: Sequence[str], scratch: Path, directory: Path) -> tuple[int, str]:
        """Run uv until it ends, or has written too much; returns its exit status and last words."""
        with tempfile.TemporaryFile(dir=scratch) as said:
            process = await trio.lowlevel.open_process(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={"LC_ALL": "C.UTF-8", "HOME": str(scratch), "TMPDIR": str(scratch), "PATH": "/nowhere"}
                | self.index.variables(),
                cwd=scratch,
                start_new_session=True,
            )
            most = self.limits.nbytes
            try:
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
                while process.returncode is None:
                    with trio.move_on_after(LOOK_SECONDS):
                        await process.wait()
                    if await trio.to_thread.run_sync(files.too_large, directory, most):
                        raise self._too_large()
            except ProcessLookupError:
                await process.wait()
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with trio.CancelScope(shield=True):
                    await process.wait()
            said.seek(0)
            assert process.returncode is not None
            return process.returncode, said.read()[-16 * 1024 :].decode(errors="replace")

    def _too_large(self) -> EnvironmentUnusableError:
        return EnvironmentUnusableError(
            f"The environment has more than {self.limits.nbytes} bytes, the executor's limit "
            "(--environment-bytes)."
        )

    def _plain(self, said: str, directory: Path) -> str:
        """Return uv's words in one line, without places of this machine, and URLs, which hold secrets."""
        said = _URL.sub("<url>", said)
        for place in (directory, self.root, *self.index.directories, Path(sys.prefix)):
            said = said.replace(str(place.absolute()), "<directory>")
        words = " ".join("".join(one if one.isprintable() else " " for one in said).split())
        return words[-SAID_CHARACTERS:]

    async def _evict(self) -> None:
        """Remove the environments that were unused for longest, until the others fit."""
        for name in [*self.made]:
            if sum(self.made.values()) <= self.limits.total_bytes:
                return
            if name in self.made and not self._users.get(name):  # another removal may have taken it
                with self._counted(name), trio.CancelScope(shield=True):
                    async with self._making.setdefault(name, trio.Lock()):  # who wants it now makes it anew
                        await self._remove(name)

    async def _remove(self, name: str) -> None:
        """Remove an environment that no cell uses."""
        del self.made[name]
        try:
            await trio.to_thread.run_sync(files.remove, self.root / name)
        except OSError as error:  # the next one of this name, or the next start, removes it
            log.warning("an environment cannot be removed", directory=name, error=type(error).__name__)
        else:
            log.info("an environment was removed", directory=name)


def _installed_here(marker: str | None) -> bool:
    """Whether a package with a marker is installed on this machine; uv refuses what is no marker."""
    try:
        return marker is None or Marker(marker).evaluate()
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName):
        return True


def find_uv() -> str:
    """Return the path of uv.

    Raises:
        EnvironmentUnusableError: If it is not installed.
    """
    try:
        from uv import find_uv_bin  # noqa: PLC0415  # an extra
    except ImportError:
        raise EnvironmentUnusableError(
            "The executor lacks uv; its operator runs pip install 'strata[executor]'."
        ) from None
    return str(find_uv_bin())


def locked(requirements: Path, loaded: Mapping[str, str], index: Index) -> str:
    """Return the lock of a file of requirements and what they need; blocking.

    Args:
        requirements: The file.
        loaded: Version by name of the packages that the processes of cells have loaded: others are not taken.
        index: Where packages come from.

    Raises:
        EnvironmentUnusableError: If uv finds none.
    """
    with tempfile.TemporaryDirectory() as scratch:
        constraints = Path(scratch, "constraints.txt")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in loaded.items()))
        command = [
            *(find_uv(), "pip", "compile", str(requirements), "--python", sys.executable, "--no-build"),
            *("--generate-hashes", "--no-annotate", "--no-header", "--no-config", "--no-progress", "--quiet"),
            *("--color", "never", "--constraints", str(constraints), *index.options()),
        ]
        variables = {**os.environ, **index.variables()}
        done = subprocess.run(  # noqa: S603  # uv
            command, capture_output=True, text=True, check=False, env=variables
        )
    if done.returncode:
        raise EnvironmentUnusableError(f"There is no lock: {done.stderr.strip()[-SAID_CHARACTERS:]}")
    text = "".join(f"{line}\n" for line in done.stdout.splitlines() if not line.startswith("--"))
    try:
        return parse_lock(text).requirements
    except LockError as error:
        raise EnvironmentUnusableError(f"There is no lock: {error}") from None
