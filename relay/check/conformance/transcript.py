"""All that was said in one test, in its order, over all its connections."""

import json
import time
from typing import Final

import msgspec

_SHOWN: Final = 300
_KEPT: Final = 400
_KEPT_LINE: Final = 4_000


class Line(msgspec.Struct, frozen=True):
    """One message, or what became of a connection."""

    seconds: float
    """Since the test began."""
    connection: int
    """The number of the connection; 0 stands for HTTP."""
    direction: str
    """`sent`, `received` or `happened`."""
    text: str


class Transcript:
    """Keeps the first lines of a test; more than 400 tell nobody anything."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.lines: list[Line] = []

    def sent(self, connection: int, text: str) -> None:
        """Note what we said."""
        self._add(connection, "sent", text)

    def received(self, connection: int, text: str) -> None:
        """Note what the relay said."""
        self._add(connection, "received", text)

    def happened(self, connection: int, text: str) -> None:
        """Note what became of a connection."""
        self._add(connection, "happened", text)

    def _add(self, connection: int, direction: str, text: str) -> None:
        if len(self.lines) < _KEPT:
            seconds = round(time.perf_counter() - self._start, 4)
            text = text.rstrip("\n")
            cut = text if len(text) <= _KEPT_LINE else text[:_KEPT_LINE] + "…"
            self.lines.append(Line(seconds, connection, direction, cut))


def shown(value: object) -> str:
    """Return a message, or a part of one, as text of a length that fits a report."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
