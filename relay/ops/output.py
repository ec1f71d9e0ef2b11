"""Printed lines, which must neither hold up the relay nor end it: maybe nobody takes them.

`relay serve 2>&1 | head -1` closes the pipe; a log collector that hangs lets it fill up; a disk has
no room for the log. A write would raise, or wait for ever with all connections. So the descriptor
is asked first, and what it does not take at once is lost, and counted.
"""

import io
import os
import select
from typing import Final, TextIO

_TAKEN_AT_ONCE: Final = select.PIPE_BUF
"""A pipe that is ready takes so many bytes without waiting (POSIX)."""
_STANDARD: Final = 3


def occupy_standard_descriptors() -> None:
    """Open the null device in place of standard descriptors that are closed.

    Else a store or a connection could get their numbers, and whatever is printed.
    """
    for descriptor in range(_STANDARD):
        try:
            os.fstat(descriptor)
        except OSError:
            # the lowest number that is free, hence this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


class Lines:
    """Text into a stream's descriptor, as far as that takes it at once.

    A stream without one, as tests have, is simply written to; `None`, which Python has for a
    standard stream that was closed from the start, takes nothing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.lost = 0
        """Lines that were lost, in whole or in part."""
        self._stream = stream
        self._descriptor: int | None = None
        self._cut = False
        self._ready = select.poll()
        if stream is not None:
            try:
                self._descriptor = stream.fileno()
            except (OSError, io.UnsupportedOperation):
                return
            self._ready.register(self._descriptor, select.POLLOUT)

    def write(self, line: str) -> int:
        """Write a line. Never waits, and raises nothing."""
        if self._descriptor is None:
            return 0 if self._stream is None else self._stream.write(line)
        data = line.encode("utf-8", "backslashreplace")
        if self._cut:
            data = b"\n" + data
        for start in range(0, len(data), _TAKEN_AT_ONCE):
            if not self._take(data[start : start + _TAKEN_AT_ONCE]):
                self.lost += 1
                self._cut = self._cut or start > 0
                return 0
        self._cut = False
        return len(line)

    def flush(self) -> None:
        """Do nothing: nothing is kept."""

    def _take(self, data: bytes) -> bool:
        assert self._descriptor is not None  # noqa: S101 - the only caller has looked
        ready = self._ready.poll(0)
        if not ready or not ready[0][1] & select.POLLOUT:
            return False
        try:
            return os.write(self._descriptor, data) == len(data)
        except OSError:
            return False
