"""``strata executor``: run transforms for Strata servers, and verify that an executor keeps the protocol."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

if TYPE_CHECKING:
    from strata.executor.sidecar.builds import DaftEngine, DaskEngine
    from strata.executor.sidecar.environments import Environments

TOKEN_VARIABLE = "STRATA_WORKER_TOKEN"  # noqa: S105  # the name of the variable
"""Environment variable with the bearer token, where no file is given; it is removed once it was read."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")

SQL = "duckdb_sql@v1"
"""The transform that is verified by default."""

SQL_PARAMS = '{"sql": "SELECT id, upper(name) AS name FROM input0 ORDER BY id"}'


@click.group(invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: any.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), help="File with the bearer token that servers must send."
)
@click.option(
    "--max-concurrent", default=2, show_default=True, type=click.IntRange(1), help="Builds at a time."
)
@click.option(
    "--cells",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Cells of notebooks at a time; 0: they are not run.",
)
@click.option("--timeout", default=300.0, show_default=True, help="Seconds that a build may take.")
@click.option(
    "--memory-bytes",
    default=1 << 30,
    show_default=True,
    help="Bytes of memory of a build; with --ray, a query's limits are Ray's.",
)
@click.option("--max-input-bytes", default=2 << 30, show_default=True, help="Bytes of all inputs of a build.")
@click.option("--directory", type=click.Path(path_type=Path), help="Directory for the files of builds.")
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    envvar="STRATA_WORKER_ALLOWED_HOSTS",
    help="Host (.suffix: all below it) with a private address to which the URLs of manifests may lead.",
)
@click.option(
    "--allow-local-hosts",
    is_flag=True,
    envvar="STRATA_WORKER_ALLOW_LOCAL_HOSTS",
    help="Let the URLs of manifests lead to all private addresses and to the loopback.",
)
@click.option(
    "--engine",
    type=click.Choice(["duckdb", "daft", "dask"]),
    default="duckdb",
    show_default=True,
    help="daft: run sql@v1, too; dask: run python@v1, too. Both need the extra cluster.",
)
@click.option(
    "--ray",
    help="Address of the Ray cluster on which Daft runs; without it, in the build's process. On Ray, memory, "
    "processor time and spilling are bounded by Ray's own settings, and not by --memory-bytes.",
)
@click.option(
    "--scheduler",
    help="Address of the scheduler of the Dask cluster on which python@v1 runs, such as tcp://127.0.0.1:8786.",
)
@click.option(
    "--properties",
    type=click.Path(path_type=Path),
    help="JSON file with properties of the file system of tables, such as s3.endpoint, for Daft.",
)
@click.option(
    "--environments",
    type=click.Path(path_type=Path),
    help="Directory for the environments of notebooks; without it there are none. Needs the extra executor.",
)
@click.option("--index-url", envvar="STRATA_WORKER_INDEX_URL", help="Index from which environments are made.")
@click.option(
    "--find-links",
    "links",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Directory with wheels from which environments are made.",
)
@click.option(
    "--environment-seconds",
    default=300.0,
    show_default=True,
    type=click.FloatRange(1, 600),
    help="Seconds in which an environment is made.",
)
@click.option(
    "--environment-bytes", default=4 << 30, show_default=True, help="Most bytes of one environment."
)
@click.option(
    "--environments-bytes",
    default=20 << 30,
    show_default=True,
    help="Bytes of all environments; beyond them those go that were unused for longest.",
)
@click.option(
    "--tracing",
    is_flag=True,
    envvar="STRATA_WORKER_TRACING",
    help="Export OpenTelemetry spans, to where the variables OTEL_* say; needs the extra otel.",
)
@click.pass_context
def executor(context: click.Context, /, **options: Any) -> None:
    """Run transforms and cells for Strata servers: SQL, Python functions of installed packages, notebooks.

    Functions are entry points of the group strata.transforms, named name@version. Each build runs in a
    sandboxed process of its own. Without a token the executor listens on the loopback only.
    """
    if context.invoked_subcommand is not None:
        return
    token = _token(options["token_file"])
    if token is None and options["host"] not in LOOPBACK:
        raise click.ClickException(
            f"--host {options['host']} is not the loopback: give a token by --token-file or {TOKEN_VARIABLE}."
        )
    daft, dask = _daft(options), _dask(options)
    environments = _environments(options)
    from strata.executor.sidecar.environment_files import DirectoryTakenError  # noqa: PLC0415  # the same
    from strata.executor.sidecar.run import run_executor  # noqa: PLC0415  # it imports for a second
    from strata.http.calling.addresses import AddressRules  # noqa: PLC0415  # the same
    from strata.http.serving.listening import CannotListenError  # noqa: PLC0415  # the same
    from strata.tracing.spans import TracingError  # noqa: PLC0415  # the same

    try:
        trio.run(
            partial(
                run_executor,
                host=options["host"],
                port=options["port"],
                token=token,
                most=options["max_concurrent"],
                cells=options["cells"],
                seconds=options["timeout"],
                memory_bytes=options["memory_bytes"],
                input_bytes=options["max_input_bytes"],
                directory=options["directory"],
                rules=AddressRules(
                    private=options["allow_local_hosts"],
                    hosts=[host.lower() for host in options["hosts"]],
                ),
                daft=daft,
                dask=dask,
                environments=environments,
                tracing=options["tracing"],
                announce=lambda url: click.echo(f"strata executor listens on {url}", err=True),
            )
        )
    except* CannotListenError as errors:
        raise click.ClickException(str(errors.exceptions[0])) from None
    except* DirectoryTakenError as errors:
        raise click.ClickException(str(errors.exceptions[0])) from None
    except* TracingError as errors:
        raise click.ClickException(f"--tracing: {errors.exceptions[0]}.") from None


def _environments(options: Mapping[str, Any]) -> Environments | None:
    """Return what makes environments.

    Raises:
        click.ClickException: If options contradict each other, or the extra is missing.
    """
    places = options["index_url"] is not None or bool(options["links"])
    if options["environments"] is None:
        if options["links"]:
            raise click.ClickException("--find-links is for --environments DIRECTORY.")
        return None
    if not places:
        raise click.ClickException(
            "--environments needs a place of packages: --index-url URL or --find-links DIRECTORY."
        )
    if not options["cells"]:
        raise click.ClickException("--environments are for cells; add --cells N.")
    if importlib.util.find_spec("uv") is None:
        raise click.ClickException("--environments needs an extra (uv); pip install 'strata[executor]'.")
    from strata.executor.sidecar.environments import (  # noqa: PLC0415  # it imports for a second
        EnvironmentLimits,
        Environments,
        Index,
    )

    limits = EnvironmentLimits(
        options["environment_seconds"], options["environment_bytes"], options["environments_bytes"]
    )
    index = Index(options["index_url"], options["links"])
    return Environments(options["environments"].absolute(), index, limits)


def _daft(options: Mapping[str, Any]) -> DaftEngine | None:
    """Return where ``sql@v1`` runs.

    Raises:
        click.ClickException: If options contradict each other, the extra is missing, or a file is wrong.
    """
    if options["engine"] != "daft":
        for name in ("ray", "properties"):
            if options[name] is not None:
                raise click.ClickException(f"--{name} is for --engine daft; add that, or leave --{name} out.")
        return None
    _need("daft", "daft", "sqlglot", *(("ray",) if options["ray"] else ()))
    from strata.executor.sidecar.builds import DaftEngine  # noqa: PLC0415  # it imports for a second

    try:
        found = json.loads(options["properties"].read_text()) if options["properties"] else {}
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise click.ClickException(
            f"--properties {options['properties']} is no file with a JSON object of texts."
        )
    if "py-io-impl" in found:
        raise click.ClickException(
            f"--properties {options['properties']} has py-io-impl, by which any Python class would open "
            "files; leave it out: the scheme of a table's location chooses."
        )
    return DaftEngine(options["ray"], found)


def _dask(options: Mapping[str, Any]) -> DaskEngine | None:
    """Return where ``python@v1`` runs.

    Raises:
        click.ClickException: If options contradict each other, or the extra is missing.
    """
    scheduler = options["scheduler"]
    if options["engine"] != "dask":
        if scheduler is not None:
            raise click.ClickException(
                "--scheduler is for --engine dask; add that, or leave --scheduler out."
            )
        return None
    if not scheduler:
        raise click.ClickException("--engine dask needs --scheduler ADDRESS, such as tcp://127.0.0.1:8786.")
    _need("dask", "dask", "distributed")
    from strata.executor.sidecar.builds import DaskEngine  # noqa: PLC0415  # it imports for a second

    return DaskEngine(scheduler)


def _need(engine: str, *packages: str) -> None:
    """Check that the packages of an engine are installed.

    Raises:
        click.ClickException: If one is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        shown = ", ".join(missing)
        raise click.ClickException(
            f"--engine {engine} needs an extra ({shown}); pip install 'strata[cluster]'."
        )


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.pop(TOKEN_VARIABLE, None) or None
    try:
        token = file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError):
        raise click.ClickException(f"--token-file {file} cannot be read.") from None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.ClickException(f"--token-file {file} holds no token.")
    return token


@executor.command()
@click.argument("requirements", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--index-url", envvar="STRATA_WORKER_INDEX_URL", help="Index of the executor.")
@click.option(
    "--find-links",
    "links",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Directory with wheels of the executor.",
)
def lock(requirements: Path, index_url: str | None, links: tuple[Path, ...]) -> None:
    """Print the lock of an environment: the packages of the file REQUIREMENTS and what they need.

    Run it where the executor runs, for its interpreter and its versions of what cells have loaded. Only
    wheels are taken.
    """
    if index_url is None and not links:
        raise click.ClickException("Name a place of packages: --index-url URL or --find-links DIRECTORY.")
    from strata.executor.sidecar.environments import (  # noqa: PLC0415  # it imports for a second
        Environments,
        EnvironmentUnusableError,
        Index,
        locked,
    )

    index = Index(index_url, links)
    try:
        loaded = trio.run(Environments(Path(), index).loaded)
        click.echo(locked(requirements, loaded, index), nl=False)
    except EnvironmentUnusableError as error:
        raise click.ClickException(str(error)) from None


@executor.command()
@click.argument("url")
@click.option("--token-file", type=click.Path(path_type=Path), help="File with the executor's bearer token.")
@click.option("--ref", default=SQL, show_default=True, help="Transform to run.")
@click.option(
    "--params", default=SQL_PARAMS, show_default=True, help="Its parameters (JSON) for one input: id, name."
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as JSON.")
def verify(url: str, token_file: Path | None, ref: str, params: str, *, as_json: bool) -> None:
    """Verify that the executor at URL keeps the protocol; the exit status is 1 if it does not."""
    from strata.executor.verify import checks  # noqa: PLC0415  # it imports for a second
    from strata.executor.verify.subject import Subject  # noqa: PLC0415  # the same

    try:
        found = json.loads(params)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.ClickException("--params is no JSON object.")
    subject = Subject(url.rstrip("/").removesuffix("/v1/execute"), _token(token_file), ref, found)

    def told(one: checks.Outcome) -> None:
        if not as_json:
            click.echo(f"{'ok    ' if one.fault is None else 'FAILED'} {one.promise}")
            if one.fault is not None:
                click.echo(f"         {one.fault}")

    outcomes = trio.run(checks.verify, subject, told)
    failed = [one for one in outcomes if one.fault is not None]
    if as_json:
        listed = [
            {"name": one.name, "promise": one.promise, "passed": one.fault is None, "fault": one.fault}
            for one in outcomes
        ]
        click.echo(json.dumps({"url": url, "passed": not failed, "checks": listed}, indent=2))
    else:
        click.echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} checks passed.")
    raise SystemExit(1 if failed else 0)
