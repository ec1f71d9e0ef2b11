"""HTTP that is not what it seems: one request, one answer, and never a word that the peer chose."""

import json
import re
import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from relay.session.core import Timing
from tests.attacks.peer import Ended, Peer, caller, peer, together
from tests.attacks.witness import HONEST, log_lines, unharmed, unharmed_process
from tests.served import ServedRelay, served_relay
from tests.session import wire
from tests.session.serving import serve

HEAD: Final = b"GET / HTTP/1.1\r\nHost: relay.example\r\n"
KEY: Final = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
UPGRADE: Final = wire.UPGRADE[:-2]
"""A right one, with room for more headers."""


def without(header: bytes) -> bytes:
    """Return the upgrade without a header."""
    lines = UPGRADE.split(b"\r\n")
    return b"\r\n".join([line for line in lines if not line.startswith(header + b":")]) + b"\r\n"


def instead(header: bytes, value: bytes) -> bytes:
    """Return the upgrade with another value of a header."""
    return re.sub(b"(?m)^%b:[^\r]*" % header, lambda _: header + b": " + value, UPGRADE) + b"\r\n"


SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: relay.example\r\n\r\n"

REQUESTS: Final = {
    # injection and malformed lines
    "a bare line feed as a line's end": (200, b"GET / HTTP/1.1\nHost: relay.example\n\n"),
    "a carriage return in a value": (400, HEAD + b"X: a\rInjected: b\r\n\r\n"),
    "a NUL in a value": (400, HEAD + b"X: a\0b\r\n\r\n"),
    "a NUL in the target": (400, b"GET /\0 HTTP/1.1\r\nHost: relay.example\r\n\r\n"),
    "a carriage return in the target": (400, b"GET /\rX HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "line breaks in the target, escaped": (
        404,
        b"GET /%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: relay.example\r\n\r\n",
    ),
    "a folded header": (200, HEAD + b"X: a\r\n b: c\r\n\r\n"),
    "a header that begins with a blank": (400, b"GET / HTTP/1.1\r\n Host: relay.example\r\n\r\n"),
    "a blank before the colon": (400, HEAD + b"Content-Length : 5\r\n\r\n"),
    "a header without a colon": (400, HEAD + b"nonsense\r\n\r\n"),
    "a header without a name": (400, HEAD + b": x\r\n\r\n"),
    "line breaks before the request": (400, b"\r\n" * 20 + HEAD + b"\r\n"),
    "a value beyond ASCII": (200, HEAD + b"X-Name: \xc3\xa9\xff\r\n\r\n"),
    "a name beyond ASCII": (400, HEAD + b"X-\xc3\xa9: x\r\n\r\n"),
    "a method beyond ASCII": (400, b"G\xc3\x89T / HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "a target beyond ASCII": (400, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "a Host beyond ASCII": (400, b"GET / HTTP/1.1\r\nHost: r\xc3\xa9lay.example\r\n\r\n"),
    "a Host that is not UTF-8": (400, b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n"),
    # size
    "a head of 16 KiB and more": (431, HEAD + b"X: " + b"x" * 16_384 + b"\r\n\r\n"),
    "a target of 16 KiB and more": (431, b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\n\r\n"),
    "a line without end": (431, b"GET /" + b"x" * 17_000),
    "headers without end": (431, HEAD + b"X: y\r\n" * 5_000),
    "thousands of headers": (200, HEAD + b"a:b\r\n" * 3_000 + b"\r\n"),
    "a very long Host": (400, b"GET / HTTP/1.1\r\nHost: " + b"x" * 300 + b"\r\n\r\n"),
    # smuggling
    "two lengths": (
        400,
        b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\n" + SMUGGLED,
    ),
    "the same length twice": (
        405,
        b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n" + SMUGGLED,
    ),
    "chunks and a length": (
        405,
        b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n" + SMUGGLED,
    ),
    "an unknown coding": (
        501,
        b"POST / HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: xchunked\r\n\r\n" + SMUGGLED,
    ),
    "chunked twice": (
        501,
        b"POST / HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked, chunked\r\n\r\n" + SMUGGLED,
    ),
    "a length that is negative": (
        400,
        b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: -1\r\n\r\n" + SMUGGLED,
    ),
    "a length with a sign": (
        400,
        b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: +5\r\n\r\n" + SMUGGLED,
    ),
    "a length beyond all bounds": (
        400,
        b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
    ),
    "a second request right behind": (200, HEAD + b"\r\n" + SMUGGLED),
    "a body for a GET": (200, HEAD + b"Content-Length: 10\r\n\r\n" + SMUGGLED),
    # targets and hosts
    "the absolute form": (200, b"GET http://relay.example/ HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "the absolute form of elsewhere": (
        404,
        b"GET http://evil.example/admin HTTP/1.1\r\nHost: r.example\r\n\r\n",
    ),
    "the form of a proxy": (404, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "the form of the server": (404, b"OPTIONS * HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "another path": (404, b"GET /../../etc/passwd HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "an escaped path": (404, b"GET /%2e%2e%2fetc HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "two slashes": (404, b"GET // HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "backslashes": (404, b"GET /\\..\\x HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "a query": (200, b"GET /?x=<script> HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, HEAD + b"Host: evil.example\r\n\r\n"),
    "a Host of markup": (200, b"GET / HTTP/1.1\r\nHost: <script>alert(1)</script>\r\n\r\n"),
    # versions and other protocols
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "HTTP/1.0": (200, b"GET / HTTP/1.0\r\n\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\nHost: r.example\r\n\r\n"),
    "HTTP/9.9": (505, b"GET / HTTP/9.9\r\nHost: r.example\r\n\r\n"),
    "HTTP/11": (400, b"GET / HTTP/11\r\nHost: r.example\r\n\r\n"),
    "the preface of HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)),
    "a frame without a handshake": (400, wire.text('["REQ","x",{}]') + b"\r\n\r\n"),
    "SSH": (400, b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "a message as it is": (400, b'["REQ","x",{}]\r\n\r\n'),
    "nothing but zeros": (400, bytes(100)),
    # methods
    "HEAD": (200, b"HEAD / HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "OPTIONS": (204, b"OPTIONS / HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "OPTIONS with a body": (
        204,
        b"OPTIONS / HTTP/1.1\r\nHost: r.example\r\nContent-Length: 3\r\n\r\nabc",
    ),
    "POST with a body": (
        405,
        b"POST / HTTP/1.1\r\nHost: r.example\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000,
    ),
    "PUT to another path": (404, b"PUT /shell.php HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "DELETE": (405, b"DELETE / HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    "a method of its own": (405, b"BREW / HTTP/1.1\r\nHost: r.example\r\n\r\n"),
    # upgrades that are none
    "an upgrade by POST": (405, UPGRADE.replace(b"GET", b"POST") + b"\r\n"),
    "an upgrade of HTTP/1.0": (200, UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n"),
    "an upgrade of another path": (404, UPGRADE.replace(b"GET /", b"GET /x") + b"\r\n"),
    "an upgrade without Upgrade": (200, without(b"Upgrade")),
    "an upgrade to something else": (200, instead(b"Upgrade", b"h2c")),
    "an upgrade without Connection": (200, without(b"Connection")),
    "an upgrade without a key": (400, without(b"Sec-WebSocket-Key")),
    "an upgrade with a short key": (400, instead(b"Sec-WebSocket-Key", b"c2hvcnQ=")),
    "an upgrade with a key beyond ASCII": (400, instead(b"Sec-WebSocket-Key", b"\xff" * 24)),
    "an upgrade with two keys": (400, UPGRADE + KEY + b"\r\n"),
    "an upgrade without a version": (400, without(b"Sec-WebSocket-Version")),
    "an upgrade of version 8": (426, instead(b"Sec-WebSocket-Version", b"8")),
    "an upgrade of version 13 and 8": (426, instead(b"Sec-WebSocket-Version", b"13, 8")),
    "an upgrade with a body": (400, UPGRADE + b"Content-Length: 5\r\n\r\nhello"),
    "an upgrade in chunks": (400, UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "an upgrade with protocols beyond ASCII": (
        400,
        UPGRADE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
    ),
    "an upgrade with extensions beyond ASCII": (
        400,
        UPGRADE + b"Sec-WebSocket-Extensions: \xff\r\n\r\n",
    ),
    "an upgrade with protocols of nonsense": (
        101,
        UPGRADE + b"Sec-WebSocket-Protocol: ,,nostr;=,\r\n\r\n",
    ),
    "an upgrade with extensions of nonsense": (
        101,
        UPGRADE + b'Sec-WebSocket-Extensions: ;;=,"\\",\x7f\r\n\r\n'.replace(b"\x7f", b"x"),
    ),
    "an upgrade that says it was forwarded": (
        101,
        UPGRADE + b"X-Forwarded-For: 203.0.113.7\r\nForwarded: for=203.0.113.8\r\n\r\n",
    ),
    "an upgrade with any Origin": (101, UPGRADE + b"Origin: https://evil.example\r\n\r\n"),
    "an upgrade that expects to be told": (101, UPGRADE + b"Expect: 100-continue\r\n\r\n"),
}


def is_one_answer(text: bytes) -> bool:
    """Tell whether that is one response, closed behind, with nothing in it that was asked for."""
    head, _, body = text.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = re.search(rb"(?mi)^content-length: (\d+)", head)
    return (
        body.count(b"HTTP/1.1 ") == 0
        and b"Connection: close" in lines
        and (length is None or not body or len(body) == int(length[1]))
        and not re.search(rb"(?i)injected|set-cookie|smuggled|evil", text)
    )


async def answer_to(port: int, data: bytes) -> tuple[int, bytes]:
    """Return the status of the answer and all that came; a WebSocket is taken leave of."""
    async with caller(port) as one:
        await one.say(data)
        head = await one.head()
        status = int(head.split(b" ")[1])
        if status == 101:
            await one.alive()
            await one.say(wire.close(1000))
            return status, head
        return status, head + b"\r\n\r\n" + await one.rest()


async def test_every_odd_request_has_one_answer_and_no_echo(tmp_path: Path) -> None:
    statuses: dict[str, int | str] = {}

    async def attack(name: str) -> None:
        try:
            statuses[name], text = await answer_to(relay.port, REQUESTS[name][1])
            if statuses[name] != 101:
                assert is_one_answer(text), f"{name}: {text!r}"
        except Ended:
            statuses[name] = "no answer"

    # with the pages and routes of the whole product
    with served_relay(tmp_path) as relay:
        async with unharmed_process(relay):
            await together([partial(attack, name) for name in REQUESTS])
    assert statuses == {name: status for name, (status, _) in REQUESTS.items()}


async def test_a_tls_client_at_the_plain_port_is_told_in_plain(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="r.example")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    async with unharmed(serving):
        status, text = await answer_to(serving.port, outgoing.read())
        assert status == 400
        assert is_one_answer(text)


async def test_the_trio_websocket_crasher_a_byte_beyond_ascii_in_any_header(
    nursery: trio.Nursery,
) -> None:
    """`serve_websocket` ended with a UnicodeDecodeError, and all connections with it."""
    serving = await serve(nursery)
    names = [b"Host", b"Upgrade", b"Connection", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version"]
    names += [b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions", b"Origin", b"User-Agent"]

    async def attack(name: bytes, value: bytes) -> None:
        head = instead(name, value) if name in UPGRADE else UPGRADE + name + b": " + value
        status, _ = await answer_to(serving.port, head.removesuffix(b"\r\n") + b"\r\n\r\n")
        assert status in (101, 400, 404, 426), (name, value)
        assert status != 101 or name in (b"Origin", b"User-Agent")

    values = [b"\xff", b"\xc3\xa9", b"x\x80y", b"\xe2\x80\xa8"]
    async with unharmed(serving):
        await together([partial(attack, name, value) for name in names for value in values])


async def ping_on(one: Peer) -> None:
    while True:
        await one.say(wire.frame(wire.FIN | wire.PING, b"wait!"))
        await one.frame()


async def test_the_trio_websocket_crasher_a_ping_after_our_close(nursery: trio.Nursery) -> None:
    """It raised a LocalProtocolError out of the connection's reader."""
    serving = await serve(nursery)

    async def attack() -> None:
        async with peer(serving.port) as one:
            await one.alive()
            # what is too big makes the relay say Close; its answer is not given, pings are
            await one.say(wire.frame(wire.FIN | wire.TEXT, length=1 << 30, length_bytes=8))
            await one.say(wire.frame(wire.FIN | wire.PING, b"still there?") * 100)
            with pytest.raises(Ended) as ended:
                await one.until_ended()
            assert ended.value.code == 1009
            await one.say(wire.frame(wire.FIN | wire.PING, b"and now?") * 100)
            assert await one.rest() == b"", "a word after the Close"

    async with unharmed(serving):
        await together([attack] * 20)
    # and while the relay itself takes leave
    async with peer(serving.port) as one:
        await one.alive()
        serving.server.stop()
        with pytest.raises(Ended) as ended:
            await ping_on(one)
        assert ended.value.code == 1001
        await one.say(wire.frame(wire.FIN | wire.PING, b"wait!") * 100)
        await one.say(wire.close(1000))
        assert await one.rest() == b""
    await serving.until(open_connections=0)
    assert serving.core.counters.faults == 0


async def test_the_trio_websocket_crasher_peers_that_vanish_while_they_are_answered(
    nursery: trio.Nursery,
) -> None:
    """A `ConnectionClosed` leaked out of a handler's own task, and ended the server."""
    serving = await serve(nursery)

    async def attack(number: int) -> None:
        async with peer(serving.port) as one:
            requests = [["REQ", f"{n}", {"kinds": [n]}] for n in range(50)]
            await one.send(*requests, *[["COUNT", f"{n}", {}] for n in range(50)])
            if number % 2:
                one.reset()
            else:
                one.leave()

    async with unharmed(serving):
        await together([partial(attack, number) for number in range(40)])


async def test_the_msgspec_crashers_brackets_without_end_and_bytes_that_are_no_utf_8(
    nursery: trio.Nursery,
) -> None:
    """A RecursionError, also through `Raw`, and a UnicodeDecodeError."""
    serving = await serve(nursery)
    brackets = [b"[" * 1_000, b"[" * 500_000, b'["EVENT",' + b"[" * 1_000]
    brackets += [b'["EVENT",{"id":' + b"[" * 1_000, b'["REQ","x",{"#e":' + b"[" * 1_000]
    brackets += [b'["AUTH",{"tags":' + b"[" * 400_000, b'["x",' + b'{"a":' * 50_000]
    async with unharmed(serving), peer(serving.port) as one:
        for text in brackets:
            await one.say(wire.text(text))
            assert (await one.until("NOTICE"))[1].startswith("invalid: ")
        await one.alive()
        for text in (b'["REQ","\xff",{}]', b"\xed\xa0\x80", b'["EVENT",{"content":"\xc0\x80"}]'):
            async with peer(serving.port) as another:
                await another.say(wire.text(text))
                assert await another.ended() == 1007


def hello_from(forged: bytes) -> list[bytes]:
    """Return conversations that carry the same bytes wherever a log might pick them up."""
    close = b"\x03\xe8" + forged[:120]
    safe = forged.replace(b"\r", b"").replace(b"\n", b"")
    return [
        UPGRADE + b"User-Agent: " + safe + b"\r\n\r\n" + wire.frame(wire.FIN | wire.CLOSE, close),
        UPGRADE.replace(b"relay.example", safe[:100].replace(b" ", b"")) + b"\r\n",
        b"GET /" + safe.replace(b" ", b"") + b" HTTP/1.1\r\nHost: r.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: r.example\r\nX-Forwarded-For: " + safe + b"\r\n\r\n",
        forged + b"\r\n\r\n",
        UPGRADE + b"\r\n" + wire.text(json.dumps(["REQ", forged.decode()[:64], {}])) + forged,
        UPGRADE + b"\r\n" + wire.text(json.dumps([forged.decode(), "x"])) + wire.close(1000),
    ]


FORGED_LINE: Final = b'x\n{"level":"error","event":"forged"}\r\n\x1b[31mforged\x1b[0m\x07'


async def converse(relay: ServedRelay) -> None:
    async def attack(data: bytes) -> None:
        async with caller(relay.port) as one:
            await one.say(data)
            with trio.move_on_after(0.3):
                await one.rest()

    await together([partial(attack, data) for data in hello_from(FORGED_LINE)])


async def test_no_peer_writes_a_line_into_the_log(tmp_path: Path) -> None:
    config = '[logging]\nlevel = "debug"\nformat = "json"\n'
    with served_relay(tmp_path, config=config) as relay:
        async with unharmed_process(relay):
            await converse(relay)
        # each line is one object of ours, whatever it quotes
        for line in log_lines(relay):
            assert line["event"] != "forged"
            assert "timestamp" in line
        text = relay.stderr_path.read_bytes()
        assert text.count(b"forged") > 0, "nothing of what was said is in the log: a weak test"
        assert b"\x1b" not in text
        assert b"\x07" not in text


async def test_no_peer_steers_the_operators_terminal(tmp_path: Path) -> None:
    config = '[logging]\nlevel = "debug"\nformat = "human"\n'
    with served_relay(tmp_path, config=config) as relay:
        await converse(relay)
        async with peer(relay.port) as one:
            await one.alive()
        relay.terminate()
        text = relay.stderr_path.read_bytes()
    assert text.count(b"forged") > 0
    assert not set(text) & {*range(0x0A), *range(0x0B, 0x20), 0x7F}
    for line in text.decode().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\S+ (debug|info) ", line), line


async def test_heads_that_never_end_are_given_up(nursery: trio.Nursery) -> None:
    """Slowloris: a byte of a head now and then, from many connections."""
    serving = await serve(nursery, timing=Timing(handshake_timeout=0.5))

    async def attack(number: int) -> None:
        async with caller(serving.port) as one:
            await one.say(UPGRADE[: number % len(UPGRADE)])
            with trio.move_on_after(20) as patience:
                while serving.server.open_connections > HONEST:
                    await one.say(b"x")
                    await trio.sleep(0.1)
            assert not patience.cancelled_caught

    async with unharmed(serving):
        await together([partial(attack, number) for number in range(100)], at_once=100)


async def test_urgent_bytes_are_bytes_like_others(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with unharmed(serving), peer(serving.port) as one:
        await one.alive()
        one.stream.socket._sock.send(b"!", socket.MSG_OOB)  # type: ignore[attr-defined]
        await one.alive()
