"""A relay as its operators run it: a process of its own, started and stopped by a test.

`served_relay` owns one process and whatever that starts: it leads a session of its own, so that
ending it can neither miss one of its children nor reach anybody else's process. Starting and
waiting block; a test that talks to the relay does so between these calls.

`client` is the smallest client that a test can be written with. It keeps what it was not asked
for, so a test may expect its messages in whatever order it cares about, and every wait has a
deadline inside.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url
from wsproto.utilities import LocalProtocolError

from relay.protocol.event import Event
from tests.corpus import Author, event_message

COMMAND: Final = [sys.executable, "-m", "relay", "serve"]
ROOT: Final = Path(__file__).resolve().parents[1]
START_DEADLINE: Final = 20.0
STOP_DEADLINE: Final = 15.0
ANSWER_DEADLINE: Final = 20.0
PROBE: Final = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/nostr+json\r\n"
    b"Connection: close\r\n\r\n"
)
CLOSE_DEADLINE: Final = 2.0


def free_port() -> int:
    """Return a loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def process_tree(pid: int) -> list[int]:
    """Return `pid` and all its descendants that live, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # the command's name may hold anything, also brackets and spaces
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(entry.name))
    tree = [pid]
    for member in tree:
        tree.extend(children.get(member, ()))
    return tree


class ServedRelay:
    """One relay process. `start` and `restart` return once it answers."""

    def __init__(
        self,
        directory: Path,
        *,
        store: str | None = None,
        arguments: Sequence[str] = (),
        config: str | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self.store = str(directory / "events.sqlite") if store is None else store
        self.stdout_path = directory / "relay.stdout"
        self.stderr_path = directory / "relay.stderr"
        self._command = [*command, "--host", "127.0.0.1", "--port", str(self.port)]
        self._command += ["--store", self.store, *arguments]
        if config is not None:
            config_path = directory / "relay.toml"
            config_path.write_text(config, encoding="utf-8")
            self._command += ["--config", str(config_path)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started; its children are found by `process_tree`."""
        return self._running().pid

    def start(self) -> None:
        """Start the process and wait until it answers."""
        if self._process is not None:
            raise RuntimeError("the relay was started already")
        # what a developer has set for a relay of his own is not for this one
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RELAY_")}
        with self.stdout_path.open("ab") as stdout, self.stderr_path.open("ab") as stderr:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_DEADLINE
        while not self._answers():
            code = self._process.poll()
            if code is not None:
                self._process = None
                raise AssertionError(f"the relay ended while starting: {code}\n{self.output()}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the relay does not answer\n{self.output()}")
            time.sleep(0.02)

    def terminate(self, signal_number: int = signal.SIGTERM) -> int:
        """Ask the process to drain, wait for its end, and return its exit status."""
        self._running().send_signal(signal_number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of a process that was told to stop; return its exit status."""
        process = self._running()
        try:
            code = process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the relay did not end when asked\n{self.output()}") from None
        self._process = None
        left = self._end_session(process.pid)
        if left:
            raise AssertionError(f"the relay left processes behind: {left}\n{self.output()}")
        return code

    def kill(self) -> None:
        """End the process and all its descendants at once, with no chance to clean up."""
        process = self._running()
        for member in process_tree(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        process.wait(STOP_DEADLINE)
        self._process = None
        self._end_session(process.pid)

    def restart(self) -> None:
        """Start again, on the same port and store; drain first where it still runs."""
        if self._process is not None:
            self.terminate()
        self.start()

    def close(self) -> None:
        """End the process if it runs."""
        if self._process is not None:
            self.terminate()

    def output(self) -> str:
        """Return the end of what the process has printed."""
        parts = []
        for name, path in (("stdout", self.stdout_path), ("stderr", self.stderr_path)):
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            if text.strip():
                parts.append(f"--- the relay's {name}:\n{text[-8000:].rstrip()}")
        return "\n".join(parts) or "--- the relay printed nothing"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the relay is not running")
        return self._process

    def _answers(self) -> bool:
        """Tell whether a request is answered: a socket may listen long before anybody reads."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(PROBE)
                return probe.recv(1) != b""
        except OSError:
            return False

    @staticmethod
    def _end_session(leader: int) -> list[int]:
        """Kill what is left of the session that `leader` led; return who that was."""
        left = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if fields[0] != "Z" and int(fields[3]) == leader:
                        left.append(int(entry.name))
        for member in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        return left


@contextlib.contextmanager
def served_relay(
    directory: Path,
    *,
    store: str | None = None,
    arguments: Sequence[str] = (),
    config: str | None = None,
    command: Sequence[str] = COMMAND,
) -> Iterator[ServedRelay]:
    """Serve a relay for the length of a block, on a free port, with its files in `directory`.

    `store` defaults to a file there; `config` is the text of a configuration file. When the
    block fails, what the relay printed is noted on the exception.
    """
    relay = ServedRelay(directory, store=store, arguments=arguments, config=config, command=command)
    relay.start()
    try:
        yield relay
    except Exception as error:
        with contextlib.suppress(AssertionError):
            relay.close()
        error.add_note(relay.output())
        raise
    finally:
        relay.close()


class Client:
    """A client's end of one connection, for tests."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self._unread: deque[list[Any]] = deque()
        self._requests = 0
        self._challenge: str | None = None

    async def send(self, message: object) -> None:
        """Send a message: anything that JSON can say, or text as it is."""
        if isinstance(message, bytes):
            message = message.decode()
        text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
        with trio.fail_after(ANSWER_DEADLINE):
            await self.connection.send_message(text)

    async def receive(self) -> list[Any]:
        """Return the next message that no `expect` has taken."""
        if self._unread:
            return self._unread.popleft()
        with trio.fail_after(ANSWER_DEADLINE):
            return await self._read()

    async def expect(self, kind: str, *fields: object) -> list[Any]:
        """Return the next message of this kind whose first fields are these; keep the others."""
        wanted = [kind, *fields]
        for message in self._unread:
            if message[: len(wanted)] == wanted:
                self._unread.remove(message)
                return message
        with trio.move_on_after(ANSWER_DEADLINE):
            while True:
                message = await self._read()
                if message[: len(wanted)] == wanted:
                    return message
                self._unread.append(message)
        seen = [str(message)[:200] for message in self._unread]
        raise AssertionError(f"no {wanted} within {ANSWER_DEADLINE} s; unread: {seen}")

    def pending(self, *fields: object) -> bool:
        """Tell whether a message that begins with these fields is among the unread ones."""
        return any(message[: len(fields)] == list(fields) for message in self._unread)

    async def nothing(self, seconds: float) -> None:
        """Check that for so long nothing arrives beyond what is unread already."""
        with trio.move_on_after(seconds):
            message = await self._read()
            raise AssertionError(f"unexpected: {str(message)[:500]}")

    async def publish(self, event: Event) -> tuple[bool, str]:
        """Publish an event and return the answer: whether it was accepted, and why not."""
        await self.send(event_message(event))
        _, _, accepted, reason = await self.expect("OK", event.id)
        return accepted, reason

    async def accept(self, *events: Event) -> None:
        """Publish events and check that every one is accepted."""
        for event in events:
            accepted, reason = await self.publish(event)
            assert accepted, f"{event.kind} {event.id} was refused: {reason}"

    async def subscribe(self, *filters: dict[str, Any], name: str | None = None) -> str:
        """Open a subscription, wait for its EOSE, and return its name.

        Stored events stay unread.
        """
        name = await self._request("REQ", filters, name)
        await self.expect("EOSE", name)
        return name

    async def request(self, *filters: dict[str, Any]) -> list[Event]:
        """Return the stored events that match, in the order in which the relay sends them."""
        name = await self._request("REQ", filters, None)
        events: list[Event] = []
        skipped: list[list[Any]] = []
        while True:
            message = await self.receive()
            if message[:2] == ["EVENT", name]:
                events.append(msgspec.convert(message[2], Event))
            elif message[:2] == ["EOSE", name]:
                break
            else:
                assert message[:2] != ["CLOSED", name], f"refused: {message}"
                skipped.append(message)
        self._unread.extendleft(reversed(skipped))
        await self.send(["CLOSE", name])
        return events

    async def event(self, name: str) -> Event:
        """Return the next event of the subscription called `name`."""
        message = await self.expect("EVENT", name)
        return msgspec.convert(message[2], Event)

    async def count(self, *filters: dict[str, Any]) -> int:
        """Return how many events match, as the relay counts them (NIP-45)."""
        name = await self._request("COUNT", filters, None)
        message = await self.expect("COUNT", name)
        count: int = message[2]["count"]
        return count

    async def authenticate(self, author: Author, url: str) -> tuple[bool, str]:
        """Answer the relay's challenge as `author` and return its verdict (NIP-42).

        Several authors may, one after the other.
        """
        if self._challenge is None:
            self._challenge = (await self.expect("AUTH"))[1]
        tags = [("relay", url), ("challenge", self._challenge)]
        event = author.sign(22242, "", tags, int(time.time()))
        await self.send(event_message(event).replace(b'["EVENT"', b'["AUTH"', 1))
        _, _, accepted, reason = await self.expect("OK", event.id)
        return accepted, reason

    async def closed(self) -> tuple[int, str | None]:
        """Wait until the relay closes the connection; return the code and the reason."""
        reason = None
        with trio.fail_after(ANSWER_DEADLINE):
            try:
                while True:
                    self._unread.append(await self._read())
            except ConnectionClosed as closed:
                reason = closed.reason
        assert reason is not None, "the connection ended without a Close frame"
        return reason.code, reason.reason

    async def _request(self, verb: str, filters: Sequence[dict[str, Any]], name: str | None) -> str:
        if name is None:
            self._requests += 1
            name = f"request-{self._requests}"
        await self.send([verb, name, *filters])
        return name

    async def _read(self) -> list[Any]:
        message = json.loads(await self.connection.get_message())
        assert isinstance(message, list), f"not a message: {message!r}"
        return message


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Connect to a relay for the length of a block."""
    closing = False
    try:
        async with open_websocket_url(
            url, max_message_size=1 << 24, message_queue_size=16
        ) as opened:
            try:
                yield Client(opened)
            finally:
                closing = True
                with trio.move_on_after(CLOSE_DEADLINE, shield=True):
                    await opened.aclose()
                # trio-websocket forgets the socket of a peer that vanished
                await trio.aclose_forcefully(opened._stream)
    except* LocalProtocolError:
        # it also answers a ping that comes behind its own Close, which wsproto does not let it
        if not closing:
            raise
