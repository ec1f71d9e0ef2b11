"""Logs: one line for one event, whatever is in it, and nothing below the level."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from relay.ops import logs
from relay.ops.config import LogFormat, LogLevel

HOSTILE = "x\n2026-01-01 error faked\x1b[31m\r\u2028\ud800"


def fail() -> None:
    raise ValueError(HOSTILE)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_is_one_object_per_line() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    structlog.get_logger().info("connection closed", peer="127.0.0.1", code=1001, how={1: b"x"})
    structlog.get_logger().warning("slow")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "level": "info",
        "event": "connection closed",
        "peer": "127.0.0.1",
        "code": 1001,
        "how": {"1": "b'x'"},
    }
    assert second["level"] == "warning"


def test_humans_get_words() -> None:
    stream = io.StringIO()
    logs.configure("info", "human", stream)
    structlog.get_logger().info("connection closed", peer="127.0.0.1", code=1001, why="went away")
    assert stream.getvalue().partition(" ")[2] == (
        'info    connection closed peer=127.0.0.1 code=1001 why="went away"\n'
    )


@pytest.mark.parametrize("form", ["human", "json"])
def test_nothing_that_a_peer_sends_starts_a_line_or_steers_a_terminal(form: LogFormat) -> None:
    stream = io.StringIO()
    logs.configure("info", form, stream)
    structlog.get_logger().info(HOSTILE, reason=HOSTILE, quote='" faked="')
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue().rstrip("\n").isprintable()


def test_an_object_that_json_does_not_know_is_shown_as_python_shows_it() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    structlog.get_logger().info("odd", value=ValueError("x"))
    assert json.loads(stream.getvalue())["value"] == "ValueError('x')"


def test_a_traceback_is_indented_for_humans_and_a_field_in_json() -> None:
    forms: list[LogFormat] = ["human", "json"]
    for form in forms:
        stream = io.StringIO()
        logs.configure("info", form, stream)
        try:
            fail()
        except ValueError:
            structlog.get_logger().exception("connection failed")
        first, *others = stream.getvalue().splitlines()
        assert "connection failed" in first
        if form == "json":
            assert "Traceback" in json.loads(first)["exception"]
            assert others == []
        else:
            assert all(line.startswith("    ") and line.isprintable() for line in others)


@pytest.mark.parametrize(("stream", "first"), [(Terminal(), "2"), (io.StringIO(), "{")])
def test_auto_is_human_on_a_terminal(stream: io.StringIO, first: str) -> None:
    logs.configure("info", "auto", stream)
    structlog.get_logger().info("started")
    assert stream.getvalue().startswith(first)


@pytest.mark.parametrize(
    ("level", "kept"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_the_level_is_the_least_important_that_is_kept(level: LogLevel, kept: int) -> None:
    stream = io.StringIO()
    logs.configure(level, "json", stream)
    logger = structlog.get_logger()
    for method in (logger.debug, logger.info, logger.warning, logger.error):
        method("event")
    assert len(stream.getvalue().splitlines()) == kept


def test_libraries_log_the_same_way() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logging.getLogger("trio-websocket").info("left out")
    logging.getLogger("trio-websocket").warning("odd frame of %d bytes", 3)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["logger"]) == ("odd frame of 3 bytes", "trio-websocket")


def test_a_start_is_announced_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    logs.announce(["ws://127.0.0.1:7777", "ws://[::1]:7777"], "/var/relay.sqlite3", "0123abcd")
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        "listening on ws://127.0.0.1:7777\nlistening on ws://[::1]:7777\n"
        "storing in /var/relay.sqlite3\n"
        "signing as 0123abcd\n"
    )
