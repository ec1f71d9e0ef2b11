"""The relay that is measured: a process tree, and what the kernel says about it.

A relay gets a session of its own, so that ending it can neither miss one of its children nor reach
anybody else's process. It has started when a WebSocket handshake succeeds.
"""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.client import Connection, ConnectionEnded
from benchmarks.peers import Peer, working_directory
from tests.served import free_port, process_tree

START_DEADLINE: Final = 60.0
STOP_DEADLINE: Final = 10.0
KEPT_OUTPUT: Final = 2_000


class Memory(NamedTuple):
    """Memory of a process tree, in bytes."""

    resident: int
    unique: int


class Server:
    """A running relay: where it listens, and which processes it consists of."""

    def __init__(self, host: str, port: int, pid: int, started: float = 0.0) -> None:
        self.host = host
        self.port = port
        self.pid = pid
        self.started = started
        """Seconds from starting the process to the first handshake."""

    def processor_seconds(self) -> float:
        """Return the processor time that the process tree has used, user and system."""
        return sum(map(_processor_seconds, process_tree(self.pid)))

    def memory(self) -> Memory:
        """Return the memory of the process tree; what it shares counts in `resident` only."""
        resident = unique = 0
        for pid in process_tree(self.pid):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    name, _, value = line.partition(":")
                    if name == "Rss":
                        resident += int(value.split()[0]) * 1024
                    elif name in ("Private_Clean", "Private_Dirty"):
                        unique += int(value.split()[0]) * 1024
        return Memory(resident, unique)

    def descriptors(self) -> int:
        """Return how many file descriptors the process tree holds open."""
        count = 0
        for pid in process_tree(self.pid):
            with contextlib.suppress(OSError):
                count += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return count

    def threads(self) -> int:
        """Return how many threads the process tree has."""
        count = 0
        for pid in process_tree(self.pid):
            with contextlib.suppress(OSError):
                count += len(list(Path(f"/proc/{pid}/task").iterdir()))
        return count


def _processor_seconds(pid: int) -> float:
    try:
        # the processor clock of another process (clock_getcpuclockid): in nanoseconds, where
        # /proc counts in ticks of 10 ms
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def fresh_server(peer: Peer) -> Iterator[Server]:
    """Serve a relay with an empty store on disk for the length of a block."""
    with (
        tempfile.TemporaryDirectory(prefix="relay-benchmark-") as directory,
        serving(peer, Path(directory)) as server,
    ):
        yield server


@contextlib.contextmanager
def serving(peer: Peer, directory: Path) -> Iterator[Server]:
    """Serve a relay with its files in `directory` for the length of a block."""
    port = free_port()
    output = directory / "output"
    # what a developer has set for a relay of his own is not for this one
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RELAY_")}
    command = peer.command(directory, port)
    with output.open("ab") as printed:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=working_directory(peer, directory),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
    try:
        _wait_until_served(process, port, begun + START_DEADLINE)
        yield Server("127.0.0.1", port, process.pid, time.perf_counter() - begun)
    except (ConnectionEnded, RuntimeError) as error:
        text = output.read_text(encoding="utf-8", errors="replace")[-KEPT_OUTPUT:]
        error.add_note(f"{peer.name} printed: {text}")
        raise
    finally:
        _end(process)


def _wait_until_served(process: "subprocess.Popen[bytes]", port: int, deadline: float) -> None:
    while True:
        try:
            Connection.open("127.0.0.1", port).close()
        except (OSError, ConnectionEnded):
            code = process.poll()
            if code is not None:
                raise RuntimeError(f"the relay ended while starting: {code}") from None
            if time.perf_counter() > deadline:
                raise RuntimeError("the relay does not answer") from None
            time.sleep(0.01)
        else:
            return


def _end(process: "subprocess.Popen[bytes]") -> None:
    members = process_tree(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_DEADLINE)
        members = [pid for pid in members[1:] if _session(pid) == process.pid]
    for member in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, 9)
    process.wait(STOP_DEADLINE)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
