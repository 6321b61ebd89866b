"""Load settings from, in rising precedence: defaults, ``[tool.strata]``, ``STRATA_*`` variables, options.

An unknown name is an error with a suggestion. All problems are reported at once.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import typing
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import attrs

from strata.acl import Policy, PolicyError, parse_policy
from strata.config.coherence import PATHS, first_names, neighbours, validate_mode_coherence
from strata.config.problems import NOT_A_TABLE, ConfigError, Problem
from strata.config.rules_file import place_of, read_rules
from strata.config.sections.catalog_callers import caller_coherence, parse_callers
from strata.config.sections.notebook_environments import environment_coherence, parse_environments
from strata.config.sections.notebook_workers import parse_workers, worker_coherence
from strata.config.sections.transforms import parse_transforms, transform_coherence
from strata.config.settings import Settings
from strata.config.tenants import coherence, parse_maximum, parse_sections, read_overrides
from strata.config.values import InvalidError, convert, suggest
from strata.file_poller import read_operator_file

PREFIX = "STRATA_"
FILE_SUFFIX = "_file"
ACL_ALIASES = ("acl_config", "acl")

CLIENT_VARIABLES = ("STRATA_CLIENT_URL", "STRATA_CLIENT_HEADERS")
"""The variables of ``strata.client``, which are no settings of a server; ``client_stall_seconds`` is one."""

_SERVICE_LINK = re.compile(
    r"STRATA_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""Variables that Kubernetes sets in the containers of a namespace with a Service named ``strata`` (Kubernetes
documentation, "Discovering services", environment variables)."""

_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")
"""How the value of ``STRATA_PORT`` begins where Kubernetes sets it."""

_TABLES = {
    "tenants",
    "tenant_maximum",
    "transforms",
    "notebook_workers",
    "notebook_environments",
    "catalog_callers",
}
_FIELDS = {field.name: field for field in attrs.fields(Settings)}
_TYPES = typing.get_type_hints(Settings)


@attrs.frozen
class Source:
    """Origin of a setting's value.

    Attributes:
        name: Name shown to the operator, such as ``default``, ``pyproject.toml`` or ``STRATA_PORT``.
        layer: Kind of source.
    """

    name: str
    layer: Literal["default", "file", "environment", "option"]


@attrs.frozen
class Loaded:
    """Settings, each with its source.

    Attributes:
        settings: Valid and coherent values.
        sources: Source of each value, by setting.
        warnings: Sentences for the operator.
        file: The configuration file, as an absolute path; None: no file has settings.
    """

    settings: Settings
    sources: Mapping[str, Source]
    warnings: tuple[str, ...] = ()
    file: Path | None = None


def load_settings(
    *, config_file: Path | None, environ: Mapping[str, str], options: Mapping[str, object], cwd: Path
) -> Loaded:
    """Collect, convert and check settings. Blocking: reads files.

    Args:
        config_file: A TOML file to read instead of ``pyproject.toml`` in ``cwd``.
        environ: The environment.
        options: Command-line options by setting; None: not given.
        cwd: Directory of ``pyproject.toml``.

    Raises:
        ConfigError: If there is any problem; carries all of them.
    """
    collector = _Collector()
    collector.add_file(config_file, cwd)
    collector.add_environment(environ)
    collector.add_options(options)
    return collector.finish()


class _Collector:
    """Values by setting, of the highest source that has one, and all problems found."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, Source] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._acl: Mapping[str, object] | None = None
        self._base = Path()
        self._file: Path | None = None

    def add_file(self, config_file: Path | None, cwd: Path) -> None:
        path = config_file if config_file is not None else cwd / "pyproject.toml"
        if config_file is None and not path.is_file():
            return
        try:
            document = tomllib.loads(read_operator_file(path).decode("utf-8-sig"))
        except OSError as error:
            self._wrong("--config", f"{path} cannot be read: {error.strerror}.")
            return
        except (ValueError, RecursionError) as error:  # ValueError also for a number of too many digits
            self._wrong("--config", f"{path} is not valid TOML: {error}.")
            return
        tool = document.get("tool", {})
        if not isinstance(tool, dict):
            self._wrong("tool", NOT_A_TABLE)
            return
        if config_file is not None and "strata" not in tool:
            self._wrong("--config", f"{path} has no [tool.strata] table; add one.")
        for key in tool:
            if key != "strata" and difflib.get_close_matches(key, ["strata"], cutoff=0.8):
                self._wrong(f"tool.{key}", "unknown section; did you mean tool.strata?")
        self._base = path.parent
        self._file = cwd / path if "strata" in tool else None
        self._add_table(tool.get("strata", {}), Source(path.name, "file"))

    def _add_table(self, table: object, source: Source) -> None:
        if not isinstance(table, dict):
            self._wrong("tool.strata", NOT_A_TABLE)
            return
        acl = [name for name in ACL_ALIASES if name in table]
        if len(acl) > 1:
            self._wrong(
                "acl", "the rules are given twice; keep [tool.strata.acl_config] or [tool.strata.acl]."
            )
        for key, value in table.items():
            if key in acl:
                self._add_acl(key, value, source)
            elif key.endswith(FILE_SUFFIX) and _is_secret(key.removesuffix(FILE_SUFFIX)):
                self._add_secret_file(key.removesuffix(FILE_SUFFIX), value, source)
            elif key in _TABLES:
                self._add_tables(key, value, source)
            elif key not in _FIELDS:
                self._wrong(key, f"unknown setting{suggest(key, _known_keys())}")
            else:
                self._add(key, value, source)

    def _add_acl(self, key: str, value: object, source: Source) -> None:
        if isinstance(value, dict):
            self._acl = self._acl if self._acl is not None else value
            self.sources["acl_config"] = source
        else:
            self._wrong(key, NOT_A_TABLE)

    def _add_tables(self, key: str, value: object, source: Source) -> None:
        found: object
        if key == "transforms":
            found, problems = parse_transforms(value)
        elif key == "notebook_workers":
            found, problems = parse_workers(value)
        elif key == "catalog_callers":
            found, problems = parse_callers(value, self._from_base)
        elif key == "notebook_environments":
            found, problems = parse_environments(value)
        else:
            found, problems = parse_sections(value) if key == "tenants" else parse_maximum(value, key)
        self.problems += problems
        self.values[key], self.sources[key] = found, source

    def add_environment(self, environ: Mapping[str, str]) -> None:
        linked = sorted(name for name, text in environ.items() if _is_service_link(name, text))
        if linked:
            shown = ", ".join(linked[:3]) + (" …" if len(linked) > 3 else "")  # noqa: PLR2004  # enough to recognise
            self.warnings.append(f"ignored what Kubernetes sets for a Service named strata: {shown}.")
        for variable, text in sorted(environ.items()):
            if not variable.upper().startswith(PREFIX) or variable in linked:
                continue
            if variable in CLIENT_VARIABLES:
                continue
            key = variable[len(PREFIX) :].lower()
            source = Source(variable, "environment")
            if variable != variable.upper():
                self._wrong(variable, f"variables are upper-case; did you mean {variable.upper()}?")
            elif key.endswith(FILE_SUFFIX) and _is_secret(key.removesuffix(FILE_SUFFIX)):
                self._add_secret_file(key.removesuffix(FILE_SUFFIX), text, source)
            elif key not in _FIELDS:
                names = [PREFIX + name.upper() for name in _known_keys()]
                self._wrong(variable, f"unknown variable{suggest(variable, names)}")
            elif _FIELDS[key].metadata["toml_only"]:
                self._wrong(variable, f"cannot be set by a variable; write the table [tool.strata.{key}].")
            else:
                self._add(key, text, source, from_text=True)

    def add_options(self, options: Mapping[str, object]) -> None:
        for key, value in options.items():
            if value is not None:
                source = Source("--" + key.replace("_", "-"), "option")
                self._add(key, value, source, from_text=isinstance(value, str))

    def _add_secret_file(self, key: str, value: object, source: Source) -> None:
        where = source.name if source.layer == "environment" else key + FILE_SUFFIX
        if not isinstance(value, str):
            self._wrong(where, "must be a path.")
            return
        if not value:
            self._wrong(where, "it is empty; remove it, or name a file.")
            return
        given = self.sources.get(key)
        if given is not None and given.layer == source.layer:
            self._wrong(where, f"{key} is set, too; keep {key} or {key}{FILE_SUFFIX}.")
            return
        try:
            path = self._from_base(value) if source.layer == "file" else value
            text = read_operator_file(Path(path).expanduser()).decode("utf-8-sig").rstrip("\r\n")
        except (OSError, ValueError, RuntimeError):  # unreadable, not a path, home of an unknown user
            self._wrong(where, "the file cannot be read; check its path and permissions.")
            return
        if not text:
            self._wrong(where, "the file is empty; write the secret into it.")
            return
        self.values[key], self.sources[key] = text, source

    def _add(self, key: str, value: object, source: Source, *, from_text: bool = False) -> None:
        name = key if source.layer == "file" else source.name
        try:
            converted = convert(_FIELDS[key], _TYPES[key], value, from_text=from_text)
        except InvalidError as error:
            self._wrong(name, str(error))
            return
        self.values[key], self.sources[key] = self._placed(key, converted, source), source

    def _placed(self, key: str, value: Any, source: Source) -> Any:
        """Return a setting's value with relative paths of a file made relative to where that file is."""
        if source.layer != "file":
            return value
        if key == "warehouses":
            return {alias: text and self._from_base(text) for alias, text in value.items()}
        return self._from_base(value) if value and key in PATHS else value

    def _from_base(self, text: str) -> str:
        if text.startswith("~"):
            return text
        return str(self._base / text)  # an absolute path stays as it is

    def finish(self) -> Loaded:
        file = self.values.get("acl_file")
        if self._acl is not None and file is not None:
            self._wrong("acl_file", "the rules are given twice; keep this file or [tool.strata.acl_config].")
        elif self._acl is not None:
            self._take_rules("acl_config", partial(parse_policy, self._acl))
        elif file is not None:
            path = place_of(file, (), 0).path
            assert path is not None
            self._take_rules("acl_file", partial(read_rules, path))
            self.sources["acl_config"] = Source(path.name, self.sources["acl_file"].layer)
        settings = Settings(**self.values)
        problems = (
            *self.problems,
            *validate_mode_coherence(settings),
            *coherence(settings),
            *transform_coherence(settings),
            *worker_coherence(settings),
            *caller_coherence(settings),
            *environment_coherence(settings),
        )
        if not {"artifact_dir", "tenant_overrides_file"} & {problem.setting for problem in problems}:
            problems = (*problems, *read_overrides(settings.overrides_path)[1])
        if problems:
            raise ConfigError(problems)
        sources = {name: self.sources.get(name, Source("default", "default")) for name in _FIELDS}
        return Loaded(settings, sources, tuple(self.warnings), self._file)

    def _take_rules(
        self, setting: str, read: Callable[[Mapping[str, str]], tuple[Policy, tuple[str, ...]]]
    ) -> None:
        warehouses, catalogs = self.values.get("warehouses", {}), self.values.get("catalogs", {})
        try:
            places = {alias: Path(text).expanduser() for alias, text in warehouses.items()}
            aliases = first_names(places, catalogs)
        except (OSError, ValueError, RuntimeError):  # no usable path or address: a problem of its own
            aliases = {alias: alias for alias in (*warehouses, *catalogs)}
        for alias, earlier in neighbours(catalogs):
            self.warnings.append(
                f"catalogs.{alias} has the address of catalogs.{earlier} and other properties: access rules "
                "for the one do not apply to the other."
            )
        try:
            policy, warnings = read(aliases)
        except PolicyError as error:
            for problem in error.problems:
                self._wrong(setting, problem)
            # An empty policy lets the checks of other settings run, although the rules are wrong.
            self.values["acl_config"] = Policy()
            return
        self.values["acl_config"] = policy
        self.warnings += [f"{setting}: {warning}" for warning in warnings]

    def _wrong(self, setting: str, message: str) -> None:
        self.problems.append(Problem(setting, message))


def _is_service_link(variable: str, text: str) -> bool:
    if variable == f"{PREFIX}PORT":
        return bool(_SERVICE_URL.match(text))
    return bool(_SERVICE_LINK.fullmatch(variable))


def _known_keys() -> list[str]:
    return [*_FIELDS, "acl", *(name + FILE_SUFFIX for name in _FIELDS if _is_secret(name))]


def _is_secret(key: str) -> bool:
    return key in _FIELDS and bool(_FIELDS[key].metadata["secret"])
