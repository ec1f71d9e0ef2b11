"""The relays that can be measured: how each is started, configured, and filled quickly.

    relay                  this one, by the interpreter that runs the benchmarks
    strfry                 `--peer strfry`, found on PATH, or `--peer strfry=/path/to/strfry`
    any other name         `--peer NAME=/path/to/program`: a program that is started with a port and
                           a directory, listens on that port of 127.0.0.1 and keeps its events in
                           that directory. Relays that are libraries are measured in this way.

Limits are raised where they would refuse what the others take (old events, large ones); everything
else is left as its makers ship it. What is written into a configuration is part of the results, and
so is what a relay promises by OK: all that are named here sync to disk before it, and one that
does not, or of which that is not known, is listed with the difference.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Final, Protocol

from relay.protocol.event import Event, decode_event, record
from relay.store.locate import open_writer, parse_location
from tests.served import ROOT

OURS: Final = "relay"
STORE: Final = "events.sqlite"
BATCH: Final = 512
MAINTAIN_EVERY: Final = 50_000
KNOWN_DURABILITY: Final = {
    "khatru": "one LMDB transaction for each event, synced before its OK",
    "nostr-relay-builder": "LMDB transactions, synced before their OKs",
}
STRFRY_CONFIGURATION: Final = Template("""\
db = "$directory/strfry-db/"
events {
    rejectEventsOlderThanSeconds = 1000000000
    rejectEphemeralEventsOlderThanSeconds = 1000000000
    maxEventSize = 131072
}
relay {
    bind = "127.0.0.1"
    port = $port
    nofiles = 0
    auth {
        enabled = false
    }
}
""")


class Peer(Protocol):
    """One relay that can be started as often as is needed, each time with a store of its own."""

    @property
    def name(self) -> str:
        """What it is called in results."""

    @property
    def durability(self) -> str:
        """What an OK promises."""

    @property
    def configuration(self) -> str:
        """What it is configured with: a template, or words."""

    @property
    def quick_filling(self) -> str:
        """How `fill` works; nothing if the events have to be published."""

    def command(self, directory: Path, port: int) -> list[str]:
        """Write what it needs into `directory`, and return the command that serves."""

    def fill(self, directory: Path, lines: Path) -> None:
        """Store the events of a file, one to a line, before the relay is started."""


class Ours:
    """This relay."""

    name = OURS
    durability = "SQLite, synchronous=FULL: batches, each synced before its OKs"
    quick_filling = f"batches of {BATCH} given to the store, without checking signatures"

    def __init__(self, config: Path | None = None) -> None:
        self._config = config
        self.configuration = "defaults" if config is None else config.read_text(encoding="utf-8")

    def command(self, directory: Path, port: int) -> list[str]:
        """Return the command of an operator."""
        command = [sys.executable, "-m", "relay", "serve", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--store", str(directory / STORE)]
        return command if self._config is None else [*command, "--config", str(self._config)]

    def fill(self, directory: Path, lines: Path) -> None:
        """Hand the events to the store's writer."""
        writer = open_writer(parse_location(str(directory / STORE)))
        try:
            batch, now = [], int(time.time())
            for number, event in enumerate(read_events(lines), 1):
                batch.append(record(event))
                if len(batch) == BATCH:
                    writer.commit(batch, now)
                    batch = []
                if number % MAINTAIN_EVERY == 0:
                    writer.maintain()
            writer.commit(batch, now)
            for _ in range(20):
                writer.maintain()
        finally:
            writer.close()


class Strfry:
    """A relay in C++ on LMDB."""

    name = "strfry"
    durability = "LMDB: batches, each synced before its OKs"
    configuration = STRFRY_CONFIGURATION.template
    quick_filling = "`strfry import --no-verify`"

    def __init__(self, program: str) -> None:
        self._program = program

    def command(self, directory: Path, port: int) -> list[str]:
        """Return the command that serves with a configuration of its own."""
        return [*self._prepared(directory, port), "relay"]

    def fill(self, directory: Path, lines: Path) -> None:
        """Import the file."""
        command = [*self._prepared(directory, 0), "import", "--no-verify"]
        with lines.open("rb") as events:
            subprocess.run(command, stdin=events, check=True, capture_output=True)

    def _prepared(self, directory: Path, port: int) -> list[str]:
        (directory / "strfry-db").mkdir(exist_ok=True)
        config = directory / "strfry.conf"
        text = STRFRY_CONFIGURATION.substitute(directory=directory, port=port)
        config.write_text(text, encoding="utf-8")
        return [self._program, f"--config={config}"]


class Program:
    """Any program that serves when it is given a port and a directory."""

    configuration = "started as PROGRAM PORT DIRECTORY"
    quick_filling = ""

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self.durability = KNOWN_DURABILITY.get(name, "not known")
        self._program = program

    def command(self, directory: Path, port: int) -> list[str]:
        """Return the command that serves."""
        return [self._program, str(port), str(directory)]

    def fill(self, directory: Path, lines: Path) -> None:
        """Not possible: `quick_filling` says so."""
        raise NotImplementedError


def parse_peer(text: str) -> Peer:
    """Read `NAME` or `NAME=PROGRAM`.

    Raises `ValueError`, also when there is no such program.
    """
    name, _, program = text.partition("=")
    found = shutil.which(program or name)
    if found is None:
        raise ValueError(f"there is no program {program or name!r}")
    path = str(Path(found).resolve())
    if name == OURS:
        raise ValueError(f"{OURS!r} is always measured")
    return Strfry(path) if name == Strfry.name else Program(name, path)


def read_events(lines: Path) -> Iterable[Event]:
    """Yield the events of a file, one to a line."""
    with lines.open("rb") as events:
        yield from map(decode_event, events)


def working_directory(peer: Peer, directory: Path) -> Path:
    """Return where a relay's process is at home; ours may run from a checkout."""
    return ROOT if peer.name == OURS else directory
