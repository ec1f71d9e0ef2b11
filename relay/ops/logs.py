"""Logs: structured events, one per line, to standard error.

A program asks structlog for a logger and says what happened as an event with values:
`structlog.get_logger().info("connection closed", code=1001)`. How a line looks, and from which
level on, is decided here and once. An event below that level costs a call of an empty function.

Values may come from a peer. So whatever could start a new line or steer a terminal is escaped, in
both formats: a line of the log is always a line that this program wrote. Only a traceback takes
more than one line, and only for humans; its lines are indented.

What libraries log through the standard library's `logging` goes the same way.
"""

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO, cast

import structlog

from relay.ops.config import LogFormat, LogLevel
from relay.ops.output import Lines

_LEVELS: Final[dict[LogLevel, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

EventDict = MutableMapping[str, Any]


def configure(level: LogLevel, form: LogFormat, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (standard error), from `level` on, in `form`.

    To be called once, before the first event. `auto` looks whether `stream` is a terminal.
    """
    stream = sys.stderr if stream is None else stream
    if form == "auto":
        form = "human" if stream is not None and stream.isatty() else "json"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _as_json if form == "json" else _for_humans,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", Lines(stream))),
        cache_logger_on_first_use=True,
    )
    # A library's own info and debug lines are about its insides, not about this relay.
    logging.basicConfig(
        handlers=[_FromLibraries()], level=max(_LEVELS[level], logging.WARNING), force=True
    )


def announce(listening: list[str], store: str, pubkey: str) -> None:
    """Say on standard output where the relay listens and stores, and who it is.

    That is all it ever says there.
    """
    lines = Lines(sys.stdout)
    for address in listening:
        lines.write(f"listening on {address}\n")
    lines.write(f"storing in {store}\n")
    lines.write(f"signing as {pubkey}\n")


class _FromLibraries(logging.Handler):
    """Hands the records of the standard library's `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno,
            record.getMessage(),
            logger=record.name,
            **({"exc_info": record.exc_info} if record.exc_info else {}),
        )


def _as_json(_logger: object, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    # The standard library's writer takes every text, also one that is not Unicode.
    return json.dumps({**first, **event}, default=repr)


def _for_humans(_logger: object, _method: str, event: EventDict) -> str:
    time = event.pop("timestamp")
    level = event.pop("level")
    traceback = event.pop("exception", None)
    words = [time, f"{level:<7}", _escaped(str(event.pop("event")))]
    words.extend(f"{name}={_value(value)}" for name, value in event.items())
    line = " ".join(words)
    if traceback is not None:
        line += "".join(f"\n    {_escaped(row)}" for row in traceback.splitlines())
    return line


def _value(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    if text and text.isprintable() and not any(sign in text for sign in ' "='):
        return text
    return '"' + _escaped(text).replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    """Return `text` with everything that is not printable as an escape."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in text
    )
