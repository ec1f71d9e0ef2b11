"""What the composition root does for the process, seen from outside."""

import json
from pathlib import Path

from tests.served import COMMAND, served_relay


def limited(limits: str) -> list[str]:
    """Return the command that starts a relay under the shell's `ulimit`."""
    return ["sh", "-c", f'ulimit {limits}; exec "$@"', "sh", *COMMAND]


def open_files_limit(pid: int) -> int:
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return int(line.split()[3])
    raise AssertionError("no such limit")


def test_the_limit_of_descriptors_is_raised_to_what_the_connections_need(
    tmp_path: Path,
) -> None:
    config = "connections.max_connections = 500"
    command = limited("-S -n 128")
    with served_relay(tmp_path, store="memory:", config=config, command=command) as relay:
        assert open_files_limit(relay.pid) == 600


def test_a_hard_limit_that_is_too_low_is_told(tmp_path: Path) -> None:
    config = "connections.max_connections = 500"
    command = limited("-n 256")
    with served_relay(tmp_path, store="memory:", config=config, command=command) as relay:
        assert open_files_limit(relay.pid) == 256
        (line,) = relay.stderr_path.read_text().splitlines()
        warning = json.loads(line)
        assert warning["level"] == "warning"
        assert (warning["descriptors"], warning["max_connections"]) == (256, 500)
