"""``strata check`` and ``strata config``, and the options every command with settings has."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from strata.config import ConfigError, Settings
from strata.config.report import as_text, effective, summary
from strata.config.sources import Loaded, load_settings

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = {
    "host": "Address to listen on.",
    "port": "Port to listen on.",
    "deployment_mode": "personal or service.",
    "artifact_dir": "Directory of results.",
    "cache_dir": "Directory of the cache.",
    "log_level": "DEBUG, INFO, WARNING or ERROR.",
    "log_format": "json or text.",
}
"""Settings that are worth an option; every other one is a key or a variable."""


def settings_options(command: F) -> F:
    """Add ``--config`` and an option for each of :data:`OPTIONS`; checked like any other source."""
    for name, text in reversed(OPTIONS.items()):
        command = click.option("--" + name.replace("_", "-"), name, metavar="VALUE", help=text)(command)
    path = click.Path(path_type=Path, dir_okay=False)
    text = "TOML file with a [tool.strata] table, instead of ./pyproject.toml."
    return click.option("--config", "config_file", type=path, metavar="FILE", help=text)(command)


def load(options: Mapping[str, Any]) -> Loaded:
    """Load settings from everything a command was given.

    Raises:
        ConfigError: With everything that is wrong.
    """
    given = dict(options)
    config_file = given.pop("config_file", None)
    return load_settings(config_file=config_file, environ=os.environ, options=given, cwd=Path.cwd())


def checked_settings(options: Mapping[str, Any]) -> Settings:
    """Return settings that may start, or end the command with everything that is wrong."""
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
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def check(*, as_json: bool, **options: Any) -> None:
    """Say what a server would do with this configuration, or everything that is wrong with it.

    Ends in 1 if the server would refuse to start. Creates nothing.
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
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def config(*, as_json: bool, **options: Any) -> None:
    """Show every setting's value and where it came from; secrets are redacted."""
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
