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

from strata.config import ConfigError, Settings
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
    return load_settings(config_file=config_file, environ=os.environ, options=given, cwd=Path.cwd())


def checked_settings(options: Mapping[str, Any]) -> Settings:
    """Return valid settings; print warnings. With problems, print all of them and exit with status 1."""
    try:
        loaded = load(options)
    except ConfigError as error:
        _complain(error)
        sys.exit(1)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    return loaded.settings


def _complain(error: ConfigError, *, as_json: bool = False) -> None:
    if as_json:
        problems = [{"setting": item.setting, "message": item.message} for item in error.problems]
        click.echo(json.dumps({"ok": False, "problems": problems}, indent=2))
        return
    many = len(error.problems)
    click.echo(f"{many} problem{'s' * (many != 1)} in the configuration:", err=True)
    for problem in error.problems:
        click.echo(f"  {problem}", err=True)


@click.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def check(*, as_json: bool, **options: Any) -> None:
    """Check a configuration, and summarize the server that it describes.

    Prints every problem and exits with status 1 if the server would refuse to start. Creates no files.
    """
    try:
        loaded = load(options)
    except ConfigError as error:
        _complain(error, as_json=as_json)
        sys.exit(1)
    found = summary(loaded.settings)
    if as_json:
        click.echo(json.dumps({"ok": True, "warnings": list(loaded.warnings), **found}, indent=2))
        return
    click.echo(as_text(found))
    for warning in loaded.warnings:
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
