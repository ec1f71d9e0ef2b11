"""`relay admin …`: what an operator can ask of a relay's own store, whether or not it runs."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import click

from relay.ops.settings import FILE_VARIABLE, load


@click.group()
def admin() -> None:
    """See what the administrators of a relay have done (NIP-86)."""


@admin.command("log", short_help="Print every change that administrators made.")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=FILE_VARIABLE,
    show_envvar=True,
    metavar="FILE",
    help="A TOML file with settings; see docs/configuration.md.",
)
@click.option("--store", metavar="PATH|sqlite:///PATH", help="Where events are kept.")
def log(file: Path | None, store: str | None) -> None:
    """Print every change that administrators made, one JSON object on a line, oldest first."""
    # imported late: asking for help needs no store
    from relay.ops.audit import changes  # noqa: PLC0415

    for record in changes(load(file, os.environ, {"store": store})):
        moment = datetime.fromtimestamp(record.at, UTC).isoformat()
        # escaped, all of it: it is for a terminal, too
        click.echo(json.dumps({"time": moment, **(record.value or {})}))
