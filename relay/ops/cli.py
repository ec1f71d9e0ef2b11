"""The command line: `relay serve`, `relay check …`, `relay admin …`, `relay --version`.

Exit codes: 0 for success, 1 when a `RelayError` ended the command (one line on standard error,
`relay: …`), 2 when the command line itself was wrong.
"""

import os
import typing
from pathlib import Path
from typing import IO, Any

import click

from relay import __version__
from relay.errors import RelayError
from relay.ops import admin_commands, allocator, check_commands
from relay.ops.config import LogFormat, LogLevel
from relay.ops.settings import FILE_VARIABLE, load, read


class _Refused(click.ClickException):
    """How a `RelayError` ends a command."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        line = " ".join(self.message.splitlines())
        click.echo(f"relay: {line}", file=file, err=file is None)


class _Commands(click.Group):
    """A group whose commands end in one line when the relay's own exceptions end them."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except RelayError as error:
            raise _Refused(str(error)) from error


_config_file = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=FILE_VARIABLE,
    show_envvar=True,
    metavar="FILE",
    help="A TOML file with settings; see docs/configuration.md.",
)


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="relay", message="%(prog)s %(version)s")
def main() -> None:
    """Run a Nostr relay.

    Settings come from a file (--config), then from environment variables (RELAY_…), then from
    flags; what comes later wins.
    """


@main.command(short_help="Serve until a signal to stop.")
@click.option("--host", metavar="H", help="The address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    metavar="N",
    help="The port to listen on; 0 lets the system choose.  [default: 7777]",
)
@click.option(
    "--store",
    metavar="PATH|sqlite:///PATH|memory:",
    help="Where events are kept.  [default: relay.sqlite3 in the user's data folder]",
)
@_config_file
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    metavar="S",
    help="Seconds that a stop may take to finish what is in flight.  [default: 5]",
)
@click.option(
    "--log-level",
    type=click.Choice(typing.get_args(LogLevel)),
    help="The least important level that is logged.  [default: info]",
)
@click.option(
    "--log-format",
    type=click.Choice(typing.get_args(LogFormat)),
    help="How log lines look; auto: human on a terminal, else json.  [default: auto]",
)
@click.pass_context
def serve(
    context: click.Context,
    host: str | None,
    port: int | None,
    store: str | None,
    file: Path | None,
    drain_timeout: float | None,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain; a second signal ends it at once.

    Prints where it listens and where it stores; logs go to standard error.
    """
    config = load(
        file,
        os.environ,
        {
            "host": host,
            "port": port,
            "store": store,
            "drain_timeout": drain_timeout,
            "logging.level": log_level,
            "logging.format": log_format,
        },
    )
    allocator.choose(config.allocator)
    # Imported late: the other commands need nothing of what serving needs.
    from relay.ops import app, logs  # noqa: PLC0415

    logs.configure(config.logging.level, config.logging.format)
    context.exit(app.serve(config))


@main.group()
def check() -> None:
    """Check the configuration, or any relay from outside."""


@check.command("config", short_help="Check the configuration.")
@_config_file
@click.pass_context
def check_config(context: click.Context, file: Path | None) -> None:
    """Print `ok`, or every mistake in the configuration file and the environment."""
    config, mistakes = read(file, os.environ)
    for mistake in mistakes:
        click.echo(f"relay: {mistake}", err=True)
    if config is None:
        context.exit(1)
    click.echo("ok")


main.add_command(admin_commands.admin)
check.add_command(check_commands.subscription)
check.add_command(check_commands.load)
check.add_command(check_commands.conformance)
