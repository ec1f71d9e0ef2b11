"""One writer at a time, across processes: an advisory lock on a file beside the store's.

The kernel releases it when the process ends, however it ends, so there are no stale locks. It is a
file of its own because closing *any* descriptor of a file drops SQLite's own locks on that file.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from relay.errors import StoreUnavailable

_SUFFIX: Final = "-writer"


class WriterLock:
    """The right to write the store at `path`, held until `release`."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises `StoreUnavailable` when another writer has it."""
        beside = path.with_name(path.name + _SUFFIX)
        try:
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"{path}: cannot make the writer's lock: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise StoreUnavailable(f"{path}: another process is writing this store") from error
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the right back. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
