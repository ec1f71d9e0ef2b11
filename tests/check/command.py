"""Runs `relay check …` as its users do, whose measure is the exit code and the words.

Most tests run the command in their own process: starting one takes longer than a check.
"""

import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

from click.testing import CliRunner

from relay.ops.cli import main
from tests.served import ROOT


class Outcome(NamedTuple):
    """What a command left."""

    code: int
    stdout: str
    stderr: str

    @property
    def verdict(self) -> dict[str, Any]:
        """The verdict of a command that was asked for JSON."""
        try:
            verdict: dict[str, Any] = json.loads(self.stdout)
        except ValueError:
            raise AssertionError(f"no verdict: {self}") from None
        return verdict

    @property
    def failures(self) -> str:
        """The verdict's failures, joined."""
        return "; ".join(self.verdict["failures"])


def run(*arguments: object, **environment: str) -> Outcome:
    """Run `relay check ARGUMENTS…` in this process."""
    command = ["check", *map(str, arguments)]
    result = CliRunner().invoke(main, command, prog_name="relay", env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def start(*arguments: object, descriptors: int | None = None) -> subprocess.Popen[str]:
    """Start `relay check ARGUMENTS…` in a process of its own, with a soft limit if one is given."""
    command = [sys.executable, "-m", "relay", "check", *map(str, arguments)]
    if descriptors is not None:
        command = ["sh", "-c", f'ulimit -S -n {descriptors}; exec "$@"', "sh", *command]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        # not the settings of somebody's own relay
        env={name: text for name, text in os.environ.items() if not name.startswith("RELAY_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 60) -> Outcome:
    """Wait for the end of such a process."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert "Traceback" not in stderr, stderr
    return Outcome(process.returncode, stdout, stderr)
