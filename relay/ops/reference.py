"""Writes the reference pages of `docs/` from the definitions themselves.

`python -m relay.ops.reference` brings `docs/configuration.md`, `docs/command-line.md` and
`docs/metrics.md` up to date, in the folder where it is started. A test fails while they are not.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Final

import click
import msgspec

from relay.ops.cli import main
from relay.ops.config import Config
from relay.ops.metrics import GAUGES, LOG_LINES, TALLIES
from relay.ops.settings import FILE_VARIABLE, SECTIONS, SETTINGS, Setting, flag_of

_CONFIGURATION_HEAD: Final = f"""\
# Configuration

Nothing needs to be set. What is set comes from three places, of which a later one wins:

1. a TOML file, named with `--config FILE` or in the environment variable `{FILE_VARIABLE}`;
2. environment variables, one for each setting;
3. flags of `relay serve` (see [the command line](command-line.md)).

`relay check config` prints `ok` or every mistake, with its place. A name that is not a setting is a
mistake, in the file as well as among the variables that begin with `RELAY_`. (Kubernetes makes such
variables by itself for a service that is called `relay`; `enableServiceLinks: false` in the pod's
specification stops that.)

```toml
port = 7777
store = "/var/lib/relay/relay.sqlite3"

[information]
name = "relay.example.com"
contact = "mailto:operator@example.com"

[limits]
max_subscriptions = 50
created_at_lower_limit = "none"
```

In a variable the value stands as it is (`RELAY_PORT=7778`, `RELAY_LIMITS_AUTH_REQUIRED=true`); a
list or table is written as JSON.
"""

_COMMAND_LINE_HEAD: Final = """\
# The command line

`relay` and `python -m relay` are the same. Exit codes: 0 for success; 1 when something kept the
relay from its work, with one line on standard error that says what, and when a check has failed
(see [checking](checking.md)); 2 when the command line itself was wrong.
"""

_METRICS_HEAD: Final = """\
# Metrics

`GET /metrics` on the relay's own port answers with numbers in Prometheus' text format. Who may read
them is set by [`metrics.access`](configuration.md); by default the machine itself:

```console
$ curl -s http://127.0.0.1:7777/metrics | grep relay_connections
```

Beside those below there are the usual ones of the process (`process_resident_memory_bytes`,
`process_open_fds`, `process_cpu_seconds_total` and so on; of the session process alone, not of the
writer and the verifiers).

| Metric | Type | What it says |
| --- | --- | --- |
"""


def configuration() -> str:
    """Return the text of `docs/configuration.md`."""
    parts = [_CONFIGURATION_HEAD]
    for section, owner in SECTIONS.items():
        if section:
            about = _attribute_texts(Config)[section]
            parts.append(f"## `[{section}]`\n\n{about}\n")
        else:
            parts.append("## At the top\n")
        texts = _attribute_texts(owner)
        parts.extend(
            _entry(setting, texts[setting.field])
            for setting in SETTINGS.values()
            if setting.section == section
        )
    return "\n".join(parts)


def command_line() -> str:
    """Return the text of `docs/command-line.md`."""
    parts = [_COMMAND_LINE_HEAD]
    for context in _contexts(click.Context(main, info_name="relay")):
        # The width is fixed: the page must not depend on the terminal it is written in.
        context.max_content_width = context.terminal_width = 80
        parts.append(f"## `{context.command_path}`\n\n```text\n{context.get_help()}\n```\n")
    return "\n".join(parts)


def metrics() -> str:
    """Return the text of `docs/metrics.md`."""
    rows = [(gauge.name, "gauge", gauge.help) for gauge in GAUGES]
    rows += [(_counter(tally.name, tally.label), "counter", tally.help) for tally in TALLIES]
    name, text, label = LOG_LINES
    rows.append((_counter(name, label), "counter", text))
    return _METRICS_HEAD + "".join(f"| `{name}` | {kind} | {text} |\n" for name, kind, text in rows)


def _counter(name: str, label: str) -> str:
    return f"{name}_total{{{label}}}" if label else f"{name}_total"


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """Yield the context of a command and of every command below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name, command in context.command.commands.items():
            yield from _contexts(click.Context(command, info_name=name, parent=context))


def _entry(setting: Setting, text: str) -> str:
    name = setting.path.rpartition(".")[2]
    facts = [f"- A value is {setting.expectation}.", f"- Default: {_default(setting)}"]
    variable = f"- Variable: `{setting.variable}`"
    flags = {option for parameter in main.commands["serve"].params for option in parameter.opts}
    if flag_of(setting.path) in flags:
        variable += f"; flag: `{flag_of(setting.path)}`"
    return "\n".join([f"### `{name}`\n", f"{text}\n", *facts, variable, ""])


def _default(setting: Setting) -> str:
    if setting.default is None:
        return "not set"
    return f"`{msgspec.json.encode(setting.default).decode()}`"


def _attribute_texts(owner: type) -> dict[str, str]:
    """Return the documentation of a class's attributes: the strings below their definitions."""
    definition = ast.parse(dedent(inspect.getsource(owner))).body[0]
    if not isinstance(definition, ast.ClassDef):
        raise TypeError(f"{owner} is not defined by a class statement")
    texts: dict[str, str] = {}
    for attribute, below in zip(definition.body, definition.body[1:], strict=False):
        match attribute, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name] = inspect.cleandoc(text)
    return texts


def write(folder: Path) -> None:
    """Write the pages into `folder`."""
    (folder / "configuration.md").write_text(configuration(), encoding="utf-8")
    (folder / "command-line.md").write_text(command_line(), encoding="utf-8")
    (folder / "metrics.md").write_text(metrics(), encoding="utf-8")


if __name__ == "__main__":
    write(Path("docs"))
