"""One writer at a time, across processes: an advisory lock on a file beside the store's.

The kernel releases it when the process ends, however it ends, so there are no stale locks. It is a
file of its own because closing *any* descriptor of a file drops SQLite's own locks on that file.

A relay that was killed leaves a writer process that finishes what it has, and then moves the
write-ahead log into the file. Whoever starts the next one does not want to fail because of that,
so it may be waited for.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from relay.errors import StoreUnavailable

_SUFFIX: Final = "-writer"
_LOOK_SECONDS: Final = 0.05


class WriterLock:
    """The right to write the store at `path`, held until `release`."""

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        """Take the lock. Blocks for up to `patience` seconds while another writer has it.

        Raises `StoreUnavailable` when it has it still, or the lock's file cannot be made.
        """
        beside = path.with_name(path.name + _SUFFIX)
        try:
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"{path}: cannot make the writer's lock: {error}") from error
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    text = f"{path}: another process is writing this store"
                    raise StoreUnavailable(text) from error
            time.sleep(_LOOK_SECONDS)
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the right back. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
