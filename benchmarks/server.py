"""The server that is measured: a process tree, and what the kernel says about it."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.served import COMMAND, ServedRelay, process_tree


class Memory(NamedTuple):
    """Memory of a process tree, in bytes."""

    resident: int
    unique: int


class Server:
    """A running relay: where it listens, and which processes it consists of."""

    def __init__(self, host: str, port: int, pid: int) -> None:
        self.host = host
        self.port = port
        self.pid = pid

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
def fresh_server(arguments: Sequence[str] = ()) -> Iterator[Server]:
    """Serve a relay with an empty store on disk for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="relay-benchmark-") as directory:
        relay = ServedRelay(Path(directory), arguments=arguments, command=COMMAND)
        relay.start()
        try:
            yield Server("127.0.0.1", relay.port, relay.pid)
        finally:
            relay.close()
