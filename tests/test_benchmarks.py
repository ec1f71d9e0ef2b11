"""The benchmarks' own client: what it counts must be what was sent, however it was cut."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection as Peer
from wsproto.connection import ConnectionType
from wsproto.events import Message, Ping, Pong, TextMessage

from benchmarks.client import Connection, ConnectionEnded, masked_frame
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


def test_a_small_run_against_a_served_relay(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--events", "200"]
    command += ["--subscribers", "5", "--connections", "20", "--json", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(results.read_bytes())
    assert document["problems"] == []
    scenarios = {measure["scenario"] for measure in document["measures"]}
    assert {"ingest, mixed kinds", "fan-out to 5, singles", "20 idle connections"} <= scenarios
    assert "query id" in scenarios
