"""The benchmarks: what their client counts must be what was sent, and what they tell be true."""

import json
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection as Peer
from wsproto.connection import ConnectionType
from wsproto.events import Message, Ping, Pong, TextMessage

from benchmarks.client import Connection, ConnectionEnded, masked_frame
from benchmarks.comparison import Comparison
from benchmarks.document import markdown
from benchmarks.peers import parse_peer
from benchmarks.report import Report, Units
from benchmarks.scenarios.queries import Answer, difference
from tests.served import ROOT


def connected() -> tuple[Connection, socket.socket]:
    """Return a client connection past its handshake, and the server's socket."""
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    theirs.setblocking(False)
    return connection, theirs


@given(st.lists(st.binary(max_size=300)), st.integers(1, 50))
def test_masked_frames_are_read_by_wsproto(payloads: list[bytes], size: int) -> None:
    peer = Peer(ConnectionType.SERVER)
    stream = b"".join(masked_frame(payload.hex().encode()) for payload in payloads)
    text = ""
    for first in range(0, len(stream), size):
        peer.receive_data(stream[first : first + size])
        for event in peer.events():
            assert isinstance(event, TextMessage)
            text += event.data + "\n" * event.message_finished
    assert text == "".join(payload.hex() + "\n" for payload in payloads)


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_frames_of_every_length_class(length: int) -> None:
    peer = Peer(ConnectionType.SERVER)
    peer.receive_data(masked_frame(b"x" * length))
    assert "".join(event.data for event in peer.events() if isinstance(event, TextMessage)) == (
        "x" * length
    )


@given(
    st.lists(st.one_of(st.text(max_size=200), st.just("y" * 70_000), st.none()), max_size=20),
    st.sampled_from([1, 2, 7, 64, 1_000, 100_000]),
    st.booleans(),
)
def test_messages_are_counted_however_the_stream_is_cut(
    messages: list[str | None], size: int, fragmented: bool
) -> None:
    server = Peer(ConnectionType.SERVER)
    stream = b""
    for message in messages:
        if message is None:
            stream += server.send(Ping(b"here?"))
        elif fragmented:
            stream += server.send(Message(data=message[:3], message_finished=False))
            stream += server.send(Message(data=message[3:]))
        else:
            stream += server.send(Message(data=message))
    if size < 64:
        stream = stream[:5_000]
    connection, theirs = connected()
    with connection.socket, theirs:
        received: list[bytes] = []
        for first in range(0, len(stream), size):
            theirs.send(stream[first : first + size])
            received += connection.receive()
        whole = [message.encode() for message in messages if message is not None]
        assert received == whole[: len(received)]
        if size >= 64:
            assert len(received) == len(whole)
            pings = messages.count(None)
            if pings:
                server.receive_data(theirs.recv(1 << 16))
                assert sum(isinstance(event, Pong) for event in server.events()) == pings


def test_the_end_of_a_connection_is_noticed() -> None:
    connection, theirs = connected()
    with connection.socket:
        theirs.close()
        with pytest.raises(ConnectionEnded):
            connection.receive()


def test_what_the_socket_does_not_take_is_sent_later() -> None:
    connection, theirs = connected()
    with connection.socket, theirs:
        payloads = [b"%d" % number * 20_000 for number in range(40)]
        for payload in payloads:
            connection.send(masked_frame(payload))
        peer = Peer(ConnectionType.SERVER)
        text = ""
        while len(text) < sum(map(len, payloads)):
            peer.receive_data(theirs.recv(1 << 16))
            text += "".join(e.data for e in peer.events() if isinstance(e, TextMessage))
            connection.flush()
        assert text.encode() == b"".join(payloads)


SMALL = (
    "--quick --events=100 --stored=200 --live=40 --visits=10 --repeats=3 --connections=20"
    " --subscribers=2 --subscriptions=30 --quiet=4 --quiet=8"
)


def run(output: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks", *SMALL.split(), "--output", str(output)]
    command += arguments
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads((output / "results.json").read_bytes())
    return document


@pytest.mark.slow
def test_a_small_run_of_every_scenario(tmp_path: Path) -> None:
    document = run(tmp_path)
    assert document["differences"] == []
    scenarios = {figure["scenario"] for figure in document["figures"]}
    assert scenarios >= {
        "ingest, short notes",
        "ingest, mixed kinds",
        "fan-out to 2, singles",
        "fan-out to 2, bursts of 20",
        "30 filters of 300 authors, few match",
        "subscriptions that do not match",
        "with the filled store",
        "query id",
        "query count kind 1",
        "20 idle connections",
        "coming and going",
    }
    page = (tmp_path / "results.md").read_text()
    assert "## Published figures of strfry" in page
    assert "Nowhere: every answer" in page


@pytest.mark.slow
def test_another_relay_has_its_turns_too(tmp_path: Path) -> None:
    """It is this one again, started as any other program is."""
    program = tmp_path / "again"
    serve = f"exec {shlex.quote(sys.executable)} -m relay serve --host 127.0.0.1"
    program.write_text(f"#!/bin/sh\ncd {shlex.quote(str(ROOT))}\n{serve} --port $1 --store $2/e\n")
    program.chmod(0o755)
    peer = f"--peer=again={program}"
    document = run(tmp_path, peer, "--scenario=churn", "--scenario=ingest")
    assert document["differences"] == []
    assert [relay["name"] for relay in document["relays"]] == ["relay", "again"]
    for figure in document["figures"]:
        assert figure["relays"].keys() == {"relay", "again"}, figure
        assert "relay is better by" in figure["relays"]["again"] or not figure["better"]
    assert ET.parse(tmp_path / "results.svg").getroot().tag.endswith("svg")


class Named:
    """A peer that is only named."""

    durability = configuration = quick_filling = ""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, directory: Path, port: int) -> list[str]:
        raise NotImplementedError

    def fill(self, directory: Path, lines: Path) -> None:
        raise NotImplementedError


def test_relays_are_compared_round_by_round() -> None:
    comparison = Comparison([Named("relay"), Named("other")])
    comparison.take_units(Units(40.0, 5.0))
    for number, (ours, theirs) in enumerate([(10, 20), (40, 40), (10, 40)]):
        for name, value in (("relay", ours), ("other", theirs)):
            report = Report()
            report.less("s", "server", value, "µs/event", "verification")
            report.more("s", "rate", 1000 / value, "events/s")
            comparison.take(name, number, report)
    for name in ("server", "rate"):
        assert comparison.rows["s", name].ratio("relay", "other") == pytest.approx((2, 1, 4))
    assert comparison.related(comparison.rows["s", "server"], "other") == 1.0
    page = markdown(comparison)
    assert "| s | server, µs/event | 10 = 0.25 verifications |" in page
    assert "40 = 1.00 verifications [2.00 (1.00-4.00)] |" in page


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([(2, "a"), (2, "b"), (1, "c")], None),
        ([(2, "b"), (2, "a"), (1, "c")], "not by lowest id first"),
        ([(1, "c"), (2, "a"), (2, "b")], "another order than newest first"),
        ([(2, "a"), (2, "b"), (1, "d")], "another choice among events of one second"),
        ([(2, "a"), (2, "b")], "1 of 3 events missing, 0 not expected"),
    ],
)
def test_how_answers_differ_is_told(rows: list[tuple[int, str]], text: str | None) -> None:
    found = difference(Answer(rows), Answer([(2, "a"), (2, "b"), (1, "c")]))
    assert found == text if text is None else text in str(found)


def test_counts_differ() -> None:
    assert difference(Answer([], 3), Answer([], 4)) == "counted 3 instead of 4"


def test_a_peer_without_a_program_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no program"):
        parse_peer("strfry=/nonexistent/strfry")
    with pytest.raises(ValueError, match="always measured"):
        parse_peer(f"relay={sys.executable}")
