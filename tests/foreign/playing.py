"""Foreign clients play scenarios against a served relay, and tell what they saw.

Each client has a program (`nostr_tools.mjs`, `ndk.mjs`, `nostr_sdk_client`) which is run once for
each relay: it plays the scenarios that it is asked for, all at once, and prints one JSON line for
each observation. A program judges nothing. What should have been seen stands in the tests, once for
all clients.

A client that cannot be run is told of by the tests that need it, as skipped; where the whole suite
is meant to run they fail.
"""

import contextlib
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.served import ROOT

HERE: Final = Path(__file__).parent
INSTALL_DEADLINE: Final = 300
PLAY_DEADLINE: Final = 90
TIMEOUT: Final = INSTALL_DEADLINE + PLAY_DEADLINE + 60
"""Seconds for a test: the first one may install packages, which takes what the registry takes."""

NOSTR_TOOLS: Final = "nostr-tools"
NDK: Final = "NDK"
NOSTR_SDK: Final = "nostr-sdk"
CLIENTS: Final = (NOSTR_TOOLS, NDK, NOSTR_SDK)

_SCRIPTS: Final = {NOSTR_TOOLS: "nostr_tools.mjs", NDK: "ndk.mjs"}

Cast = Mapping[str, Sequence[str]]
"""Which client plays which scenarios."""


class Unavailable(Exception):
    """A client that this machine cannot run."""


class Seen(Mapping[str, Any]):
    """What one client saw in one scenario: observations by their names."""

    def __init__(self, title: str) -> None:
        self._title = title
        self.values_by_name: dict[str, Any] = {}
        self.error: str | None = None

    def __getitem__(self, what: str) -> Any:
        if what not in self.values_by_name:
            raise AssertionError(f"{self._title}: nothing was seen of {what!r}: {self.error}")
        return self.values_by_name[what]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)

    def refused(self, what: str, *prefixes: str) -> None:
        """Check that an event was refused with one of these prefixes."""
        accepted, reason = self[what]
        assert not accepted, f"{self._title}: {what} was accepted: {reason!r}"
        prefix, colon, _ = reason.partition(": ")
        assert colon, f"{self._title}: {what} was refused without a prefix: {reason!r}"
        assert prefix in prefixes, f"{self._title}: {what} was refused with {reason!r}"

    def accepted(self, what: str) -> None:
        """Check that an event was accepted."""
        accepted, reason = self[what]
        assert accepted, f"{self._title}: {what} was refused: {reason!r}"

    def closed(self, what: str, prefix: str) -> None:
        """Check that a request was closed with this prefix."""
        value = self[what]
        assert isinstance(value, dict), f"{self._title}: {what} was answered: {value!r}"
        assert "closed" in value, f"{self._title}: {what} was answered: {value!r}"
        assert value["closed"].startswith(f"{prefix}: "), f"{self._title}: {what}: {value!r}"


class Performance:
    """What all clients saw at one relay."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], Seen] = {}
        self._unavailable: dict[str, str] = {}
        self._errors: dict[str, str] = {}

    def seen(self, client: str, scenario: str) -> Seen:
        """Return what `client` saw; skip, or fail, when it could not be run."""
        if client in self._unavailable:
            unavailable(self._unavailable[client])
        seen = self._seen.get((client, scenario))
        assert seen is not None, f"{client} has not played {scenario}: {self._errors.get(client)}"
        assert seen.error is None, f"{client}, {scenario}: {seen.error}\n{seen.values_by_name}"
        return seen

    def missed(self, client: str, reason: str) -> None:
        """Note that `client` cannot be run."""
        self._unavailable[client] = reason

    def add(self, client: str, output: str, errors: str) -> None:
        """Take in what a client's program has printed."""
        self._errors[client] = f"{errors[-3000:]}\n{output[-1000:]}"
        for line in output.splitlines():
            if not line.startswith("{"):
                continue
            told = json.loads(line)
            scenario = told["scenario"]
            seen = self._seen.setdefault((client, scenario), Seen(f"{client}, {scenario}"))
            if "error" in told:
                seen.error = told["error"]
            else:
                seen.values_by_name[told["what"]] = told["value"]


def unavailable(reason: str) -> None:
    """Skip on a developer's machine; fail where the whole suite is meant to run."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true forbids to skip this")
    pytest.skip(reason)


def players(cast: Cast, scenario: str) -> pytest.MarkDecorator:
    """Run a test once for each client that plays `scenario`, as `client`."""
    names = [client for client in CLIENTS if scenario in cast.get(client, ())]
    assert names, f"nobody plays {scenario}"
    return pytest.mark.parametrize("client", names)


def play(url: str, cast: Cast, properties: Mapping[str, Any] | None = None) -> Performance:
    """Run all clients at once, each in a process of its own, and return what they saw.

    `properties` reach every scenario: what it has to know about the relay.
    """
    performance = Performance()
    with contextlib.ExitStack() as files:
        started = []
        for client, scenarios in cast.items():
            if not scenarios:
                continue
            try:
                command = _command(client)
            except Unavailable as missing:
                performance.missed(client, str(missing))
                continue
            # files, since a program that nobody reads from would stop when its pipe is full
            output, errors = (
                files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
                for _ in range(2)
            )
            process = subprocess.Popen(
                [*command, url, json.dumps(properties or {}), *scenarios],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
            started.append((client, process, output, errors))
        for client, process, output, errors in started:
            try:
                process.wait(timeout=PLAY_DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                errors.write("\nit did not end in time")
            output.seek(0)
            errors.seek(0)
            performance.add(client, output.read(), errors.read())
    return performance


def _command(client: str) -> list[str]:
    if client == NOSTR_SDK:
        if importlib.util.find_spec("nostr_sdk") is None:
            raise Unavailable("nostr-sdk is not installed")
        return [sys.executable, "-m", "tests.foreign.nostr_sdk_client"]
    node = _node()
    if isinstance(node, Unavailable):
        raise node
    return [node, str(HERE / _SCRIPTS[client])]


@functools.cache
def _node() -> str | Unavailable:
    """Return the Node.js command, with the packages of `package.json` beside the scripts."""
    command, npm = shutil.which("node"), shutil.which("npm")
    if command is None or npm is None:
        return Unavailable("node and npm are not installed")
    if not _installed():
        install = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"]
        try:
            done = subprocess.run(
                install, cwd=HERE, capture_output=True, text=True, timeout=INSTALL_DEADLINE
            )
        except subprocess.TimeoutExpired:
            return Unavailable("npm install did not end in time: no registry?")
        if done.returncode != 0:
            return Unavailable(f"npm install failed: {done.stderr.strip()[-500:]}")
    return command


def _installed() -> bool:
    """Tell whether the exact versions that `package.json` names are there."""
    package = json.loads((HERE / "package.json").read_bytes())
    for name, version in package["dependencies"].items():
        manifest = HERE / "node_modules" / name / "package.json"
        if not manifest.exists() or json.loads(manifest.read_bytes())["version"] != version:
            return False
    return True
