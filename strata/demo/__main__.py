"""Write the demo's tables into a directory: ``python -m strata.demo DIR``, for stacks that serve them."""

from __future__ import annotations

from pathlib import Path

import click

from strata.demo.dataset import prepare
from strata.demo.errors import DemoError


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def main(directory: Path) -> None:
    """Write the demo's tables into DIRECTORY/warehouse, unless they are there already."""
    try:
        found = prepare(directory, lambda step: click.echo(f"writing: {step}", err=True))
    except DemoError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{found.warehouse} {'is complete already' if found.reused else 'is written'}")


if __name__ == "__main__":
    main()
