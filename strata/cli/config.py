"""``strata check`` and ``strata config``, and the options of all commands that read settings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click
import trio

from strata.config import ConfigError, Problem, Settings
from strata.config.report import as_text, effective, summary
from strata.config.sources import Loaded, load_settings

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = {
    "host": "Address to listen on",
    "port": "TCP port to listen on, 0 for any free one",
    "deployment_mode": "personal (one user) or service (many users behind a proxy)",
    "artifact_dir": "Directory of results and their metadata",
    "cache_dir": "Directory of the cache",
    "log_level": "Lowest level that is logged: DEBUG, INFO, WARNING or ERROR",
    "log_format": "Form of log lines: json or text",
}
"""Help texts of the settings that are also options, without their defaults; all others are TOML keys or
variables only."""

JSON_HELP = "Print JSON instead of text."

CLOCK_SECONDS = 5.0
"""Seconds from which on a difference of two machines' clocks is a warning: times in audits would differ."""

PROXY_SECONDS = 10.0
"""Seconds for a proxy to answer ``strata check --proxy``."""


def settings_options(command: F) -> F:
    """Add ``--config`` and an option for each of :data:`OPTIONS` to a command."""
    fields = attrs.fields_dict(Settings)
    for name, words in reversed(OPTIONS.items()):
        default = fields[name].default
        text = f"{words}." if default is None else f"{words} (default: {default})."
        command = click.option("--" + name.replace("_", "-"), name, metavar="VALUE", help=text)(command)
    path = click.Path(path_type=Path, dir_okay=False)
    text = "TOML file with a [tool.strata] table (default: ./pyproject.toml, if there is one)."
    return click.option("--config", "config_file", type=path, metavar="FILE", help=text)(command)


def load(options: Mapping[str, Any]) -> Loaded:
    """Load settings from a command's options, the environment and the configuration file. Blocking.

    Raises:
        ConfigError: If there is any problem; carries all of them.
    """
    given = dict(options)
    config_file = given.pop("config_file", None)
    if config_file is not None and config_file.is_absolute():
        return load_settings(config_file=config_file, environ=os.environ, options=given, cwd=Path("/"))
    try:
        cwd = Path.cwd()
    except OSError as error:  # it was removed, or a directory above it is closed to this process
        why = f"the working directory cannot be read: {error.strerror}; start in another one."
        raise ConfigError((Problem("--config", why),)) from None
    return load_settings(config_file=config_file, environ=os.environ, options=given, cwd=cwd)


def checked_settings(options: Mapping[str, Any]) -> tuple[Settings, Callable[[], Settings]]:
    """Return valid settings, and a function that reads them again; print warnings.

    With problems, print all of them and exit with status 1. The settings are read again from the same file:
    if it was removed, or the working directory was, that is a problem, not a configuration of defaults.
    """
    try:
        loaded = load(options)
    except ConfigError as error:
        _complain(error)
        sys.exit(1)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    again = {**options, "config_file": loaded.file}
    return loaded.settings, lambda: load(again).settings


def _complain(error: ConfigError, *, as_json: bool = False) -> None:
    if as_json:
        problems = [{"setting": item.setting, "message": item.message} for item in error.problems]
        click.echo(json.dumps({"ok": False, "problems": problems}, indent=2))
        return
    many = len(error.problems)
    click.echo(f"{many} problem{'s' * (many != 1)} in the configuration:", err=True)
    for problem in error.problems:
        click.echo(f"  {problem}", err=True)


def _missing_walls() -> tuple[str, ...]:
    """Return the walls of the sandbox that this machine lacks; all of them if no process can be started."""
    from strata.sandbox.walls import WALLS  # noqa: PLC0415  # only where transforms are enabled
    from strata.server.stores import CannotOpenError  # noqa: PLC0415  # as above
    from strata.server.transforms import missing_walls  # noqa: PLC0415  # as above

    try:
        return trio.run(missing_walls)
    except CannotOpenError:
        return WALLS


def _readers() -> dict[str, Any]:
    """Return which walls stand around the processes that read data files on this machine."""
    from strata.outcomes import RefusalError  # noqa: PLC0415  # only where a server is described
    from strata.readers import ReaderPool  # noqa: PLC0415  # as above
    from strata.sandbox.walls import WALLS  # noqa: PLC0415  # as above

    pool = ReaderPool(1)
    missing: tuple[str, ...] = WALLS
    try:
        if pool.available:
            missing = pool.missing_walls()
    except RefusalError:
        pass  # files are read in the server then, or not at all
    finally:
        pool.close()
    return {"walls": [wall for wall in WALLS if wall not in missing], "missing_walls": list(missing)}


def _metadata(settings: Settings, *, as_json: bool) -> tuple[dict[str, Any], list[str]]:
    """Return facts of the PostgreSQL database, and warnings; exit with status 1 if it cannot be used."""
    from strata.server.schema import check_postgres  # noqa: PLC0415  # only where a database is configured
    from strata.server.stores import CannotOpenError  # noqa: PLC0415  # as above

    try:
        found = check_postgres(settings)
    except CannotOpenError as error:
        setting, _, words = str(error).partition(": ")
        _complain(ConfigError((Problem(setting, words),)), as_json=as_json)
        sys.exit(1)
    facts = {"database": found.place, "revision": found.before or "none: the first server makes the tables"}
    if abs(found.ahead) < CLOCK_SECONDS:
        return facts, []
    words = (
        f"its clock is {abs(found.ahead):.1f} s {'ahead of' if found.ahead > 0 else 'behind'} this machine's"
    )
    return facts, [f"artifact_metadata_dsn: {words}; have both synchronized, as by NTP."]


def _bucket(settings: Settings, *, as_json: bool) -> str:
    """Return what a probe of the object store found; exit with status 1 if it could not keep results."""
    from strata.server.bucket import check_bucket  # noqa: PLC0415  # only where an object store is configured
    from strata.server.stores import CannotOpenError  # noqa: PLC0415  # as above

    try:
        return check_bucket(settings)
    except CannotOpenError as error:
        setting, _, words = str(error).partition(": ")
        _complain(ConfigError((Problem(setting, words),)), as_json=as_json)
        sys.exit(1)


def _survey(loaded: Loaded) -> list[str]:
    from strata.checks import survey  # noqa: PLC0415  # it imports for a second

    return survey(loaded.settings, loaded.file)


def _tables(loaded: Loaded, names: tuple[str, ...]) -> list[str]:
    """Return what a scan of the tables would be refused for."""
    from strata.checks import look_at_tables  # noqa: PLC0415  # it imports for a second
    from strata.readers import READERS  # noqa: PLC0415  # as above

    READERS.begin()
    return list(look_at_tables(loaded.settings, names))


def _through(url: str) -> list[str]:
    """Return what a caller of the server by its proxy at ``url`` would be refused for."""
    import httpx  # noqa: PLC0415  # only where a proxy is named

    me = f"{url.rstrip('/')}/v1/me"
    try:
        answer = httpx.get(me, timeout=PROXY_SECONDS)
        found = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [f"--proxy: {url} gives no answer: {error or type(error).__name__}."]
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"detail", "checks"} & {*found}:
        why = "its own authentication may have refused" if answer.status_code in (302, 401, 403) else me
        return [f"--proxy: {url} answers {answer.status_code}, and not as Strata does ({why})."]
    if "checks" not in found:
        hint = " The proxy sends another token than proxy_token." * (found.get("error") == "invalid_token")
        return [f"--proxy: {url} is refused: {found['detail']} ({found.get('error')}).{hint}"]
    who = f"{found['principal']} of {found['tenant']}"
    return [
        f"--proxy: {url}: {who}: {check['what']}: {check['detail']} ({check['error']})."
        for check in found["checks"]
        if not check["allowed"] and check["error"] not in ("missing_scope", "writes_disabled")
    ]


@click.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.option(
    "--offline", is_flag=True, help="Leave out the database, object store, catalogs, ports, tables and disk."
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="TABLE",
    help="Open the files of this table, too, or of all tables of this warehouse or catalog; may be repeated.",
)
@click.option("--proxy", metavar="URL", help="Ask for /v1/me by the proxy at this address, too.")
def check(
    *, as_json: bool, offline: bool, tables: tuple[str, ...], proxy: str | None, **options: Any
) -> None:
    """Check a configuration, and summarize the server that it describes.

    Prints every problem and exits with status 1 if the server would refuse to start, or its object store
    cannot be written. Creates no files; in an object store, it writes and removes one small object. Warns of
    tables, catalogs and executors that cannot be used now, ports in use, secrets that other users can read,
    a full disk, a certificate that ends, disabled tenants, and rules that are missing or let no caller in.
    """
    try:
        loaded = load(options)
    except ConfigError as error:
        _complain(error, as_json=as_json)
        sys.exit(1)
    found = summary(loaded.settings)
    found["readers"] = _readers()
    warnings = [*loaded.warnings, *([] if offline else _survey(loaded))]
    warnings += _tables(loaded, tables) if tables else []
    warnings += _through(proxy) if proxy is not None else []
    if loaded.settings.artifact_metadata_dsn is not None and not offline:
        found["metadata"], more = _metadata(loaded.settings, as_json=as_json)
        warnings += more
    if loaded.settings.artifact_blob_backend != "local" and not offline:
        found["storage"]["object_store"] = _bucket(loaded.settings, as_json=as_json)
    if loaded.settings.transforms.enabled:
        missing = _missing_walls()
        found["transforms"] = {
            "registered": [entry.ref for entry in loaded.settings.transforms.registry],
            "sandbox": loaded.settings.transforms.sandbox,
            "missing_walls": list(missing),
        }
        if missing and loaded.settings.transforms.sandbox == "require":
            words = f"require needs all walls, and this machine lacks {', '.join(missing)}; set prefer."
            _complain(ConfigError((Problem("transforms.sandbox", words),)), as_json=as_json)
            sys.exit(1)
    if as_json:
        click.echo(json.dumps({"ok": True, "warnings": warnings, **found}, indent=2))
        return
    click.echo(as_text(found))
    for warning in warnings:
        click.echo(f"warning: {warning}")
    click.echo("no problems")


@click.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def config(*, as_json: bool, **options: Any) -> None:
    """Print every setting with its value and source.

    Secrets are redacted.
    """
    try:
        found = effective(load(options))
    except ConfigError as error:
        _complain(error, as_json=as_json)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, item in found.items():
        value = item["value"]
        text = json.dumps(value) if isinstance(value, dict | bool) else "" if value is None else str(value)
        click.echo(f"{name:<34} {text:<32} {item['source']}")
