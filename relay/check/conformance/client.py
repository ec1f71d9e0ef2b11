"""One connection to the relay under test: what was said, what came, and what did not.

Whatever comes is kept until a test asks for it, so a test names what it waits for and the order of
the rest is no concern of it. No wait is without an end. What the relay refuses for reasons of its
own policy (`auth-required:`, `rate-limited:` …) makes a test inconclusive, not the relay wrong.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio

from relay.check.conformance.signer import Signer, WireEvent, now
from relay.check.conformance.transcript import Transcript, shown
from relay.check.conformance.verdicts import Inconclusive, broken
from relay.check.connection import Connection

Message = list[Any]
Wanted = Callable[[Message], bool]

POLICY: Final = ("auth-required", "restricted", "blocked", "rate-limited", "pow", "mute")
"""Prefixes by which a relay says that it does not want to, not that something is wrong."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long is waited, in seconds."""

    patience: float = 5.0
    """For what has to come."""
    quiet: float = 0.25
    """For what must not come, when everything that could precede it has come."""


class Answer(msgspec.Struct, frozen=True):
    """An OK."""

    accepted: bool
    reason: str
    message: Message

    @property
    def prefix(self) -> str:
        """The machine-readable word before the colon; empty where there is none."""
        word, colon, _ = self.reason.partition(":")
        return word if colon and word and " " not in word else ""


class Stored(msgspec.Struct, frozen=True):
    """What a REQ got up to its EOSE."""

    events: list[WireEvent]
    eose: Message

    @property
    def ids(self) -> list[str]:
        """The events' ids, in the order in which they came."""
        return [event["id"] for event in self.events]


class Client:
    """One connection. `run` reads it; everything else is for the test."""

    def __init__(
        self, number: int, url: str, connection: Connection, transcript: Transcript, pace: Pace
    ) -> None:
        self.url = url
        self.pace = pace
        self.number = number
        self._connection = connection
        self._transcript = transcript
        self._unread: list[Message] = []
        self._changed = trio.Event()
        self._requests = 0
        self._ending: str | None = None
        self._violation: str | None = None
        self.challenge: str | None = None
        """The latest challenge (NIP-42)."""

    @property
    def has_ended(self) -> bool:
        """Whether the connection is gone."""
        return self._ending is not None

    @property
    def ending(self) -> str:
        """How the connection ended; empty while it lives."""
        return self._ending or ""

    @property
    def unread(self) -> tuple[Message, ...]:
        """What has come and was not asked for yet."""
        return tuple(self._unread)

    async def run(self) -> None:
        """Read until the connection ends."""
        ending = await self._connection.run(self._handle)
        self._ending = ending.text
        self._transcript.happened(self.number, ending.text)
        self._wake()

    # sending

    async def send(self, *message: object) -> None:
        """Send a message."""
        await self.send_text(json.dumps(message, ensure_ascii=False, separators=(",", ":")))

    async def send_text(self, text: str) -> None:
        """Send a text that need not be a message."""
        self._transcript.sent(self.number, text)
        await self._connection.send(text.encode())

    # receiving

    async def receive(
        self, expected: str, wanted: Wanted, *, patience: float | None = None
    ) -> Message:
        """Return the first message that is wanted, and keep the others.

        Ends the test as broken when none comes in time, or can come no more.
        """
        message = await self.attempt(wanted, patience=patience)
        if message is None:
            broken(expected, self.what_came(patience))
        return message

    async def attempt(self, wanted: Wanted, *, patience: float | None = None) -> Message | None:
        """Return the first message that is wanted; `None` when none comes in time."""
        with trio.move_on_after(self.pace.patience if patience is None else patience):
            while True:
                if self._violation is not None:
                    broken("messages that are JSON arrays", self._violation)
                for position, message in enumerate(self._unread):
                    if wanted(message):
                        return self._unread.pop(position)
                if self._ending is not None:
                    return None
                self._changed = trio.Event()
                await self._changed.wait()
        return None

    def what_came(self, patience: float | None = None) -> str:
        """Say what came instead of what was waited for."""
        waited = self.pace.patience if patience is None else patience
        rest = [one for one in self._unread if one[:1] != ["AUTH"]]
        last = f", but {shown(rest[-1])}" if rest else ""
        if self._ending is not None:
            return f"it did not come{last}: {self._ending}"
        return f"it did not come within {waited:g} s{last}"

    async def nothing(self, unexpected: str, unwanted: Wanted) -> None:
        """End the test as broken if something comes that must not."""
        message = await self.attempt(unwanted, patience=self.pace.quiet)
        if message is not None:
            broken(f"no {unexpected}", f"{shown(message)} came")

    # events

    async def offer(self, event: WireEvent) -> Answer:
        """Publish an event and return the OK."""
        await self.send("EVENT", event)
        return await self.answer_to(event)

    async def answer_to(self, event: WireEvent) -> Answer:
        """Return the OK for an event that was published."""
        expected = f"an OK for the event {event['id'][:16]}…"
        return _answer(await self.receive(expected, lambda m: m[:2] == ["OK", event["id"]]))

    async def accept(self, *events: WireEvent) -> None:
        """Publish events that the relay has no reason to refuse."""
        for event in events:
            answer = await self.offer(event)
            if not answer.accepted:
                self.refused(answer, f"the event of kind {event['kind']}")

    def refused(self, answer: Answer, what: str) -> None:
        """End the test: by the relay's policy, or because it is wrong."""
        if answer.prefix in POLICY:
            raise Inconclusive(f"the relay refuses {what}: {answer.reason}")
        broken(f"that {what} is accepted", f"it was refused: {answer.reason or 'no reason'}")

    async def refuse(self, event: WireEvent, what: str) -> Answer:
        """Publish an event that the relay must refuse, and return the OK."""
        answer = await self.offer(event)
        if answer.accepted:
            broken(f"that {what} is refused", f"{shown(answer.message)} came")
        return answer

    async def offer_malformed(self, event: object) -> Answer | None:
        """Publish what is no event; `None` when it is answered otherwise than by an OK, or not."""
        await self.send("EVENT", event)
        message = await self.attempt(
            lambda m: m[:1] in (["OK"], ["NOTICE"]), patience=4 * self.pace.quiet
        )
        if message is None or message[0] == "NOTICE":
            return None
        return _answer(message)

    # subscriptions

    async def subscribe(self, *filters: object, name: str | None = None) -> "Subscription":
        """Open a subscription and read its stored events."""
        name = self.name() if name is None else name
        await self.send("REQ", name, *filters)
        return Subscription(self, name, await self.stored_of(name))

    async def stored_of(self, name: str) -> Stored:
        """Read the stored events of a subscription up to its EOSE."""
        events: list[WireEvent] = []
        while True:
            message = await self.receive(
                f"an EOSE for {name!r}",
                lambda m: m[0] in ("EVENT", "EOSE", "CLOSED") and m[1:2] == [name],
            )
            if message[0] == "CLOSED":
                self.refused_request(message)
            if message[0] == "EOSE":
                return Stored(events, message)
            events.append(_event(message))

    def refused_request(self, message: Message) -> None:
        """End the test for a CLOSED: by the relay's policy, or because it is wrong."""
        reason = str(message[2]) if len(message) > 2 else ""
        if reason.partition(":")[0] in POLICY:
            raise Inconclusive(f"the relay refuses a request: {reason}")
        broken("that the request is answered", f"{shown(message)} came")

    async def stored(self, *filters: object) -> Stored:
        """Return what is stored, and leave no subscription behind."""
        subscription = await self.subscribe(*filters)
        await subscription.close()
        return subscription.stored

    async def ids(self, *filters: object) -> list[str]:
        """Return the ids of what is stored."""
        return (await self.stored(*filters)).ids

    async def request_outcome(self, name: str, verb: str = "REQ") -> Message | None:
        """Return the EOSE, COUNT or CLOSED that a request gets; `None` when none comes."""
        wanted = ("EOSE" if verb == "REQ" else verb, "CLOSED")
        return await self.attempt(
            lambda m: m[0] in wanted and m[1:2] == [name], patience=8 * self.pace.quiet
        )

    async def count(self, *filters: object) -> dict[str, Any]:
        """Return what a COUNT is answered with (NIP-45)."""
        name = self.name()
        await self.send("COUNT", name, *filters)
        message = await self.receive(
            f"a COUNT for {name!r}", lambda m: m[0] in ("COUNT", "CLOSED") and m[1:2] == [name]
        )
        if message[0] == "CLOSED":
            self.refused_request(message)
        if len(message) < 3 or not isinstance(message[2], dict):
            broken('a COUNT with an object {"count": …}', f"{shown(message)} came")
        found: dict[str, Any] = message[2]
        if type(found.get("count")) is not int:
            broken('a COUNT with an object {"count": <integer>}', f"{shown(message)} came")
        return found

    async def alive(self) -> None:
        """End the test as broken unless the relay still answers on this connection."""
        name = self.name()
        await self.send("REQ", name, {"ids": ["0" * 63 + "1"], "limit": 1})
        await self.receive(
            "that the connection still works",
            lambda m: m[0] in ("EOSE", "CLOSED") and m[1:2] == [name],
        )
        await self.send("CLOSE", name)

    def name(self) -> str:
        """Return a subscription id that this connection has not used."""
        self._requests += 1
        return f"request-{self._requests}"

    # authentication

    async def challenged(self, patience: float | None = None) -> str | None:
        """Return the relay's challenge; `None` when it offers none in time.

        It may come when one connects, or not before something needs it: a protected event does
        (NIP-70), and private messages do (NIP-17).
        """
        wait = self.pace.quiet if patience is None else patience
        if self.challenge is None:
            await self.attempt(_is_challenge, patience=wait)
        if self.challenge is None:
            await self.send("EVENT", Signer().sign(1, "protected", [["-"]]))
            await self.send("REQ", "private", {"kinds": [1059], "#p": ["0" * 64], "limit": 1})
            await self.attempt(_is_challenge, patience=4 * wait)
            await self.send("CLOSE", "private")
        return self.challenge

    async def authentication(
        self,
        signer: Signer,
        *,
        kind: int = 22242,
        created_at: int | None = None,
        url: str | None = None,
        challenge: str | None = None,
    ) -> WireEvent:
        """Return an event that answers the relay's challenge, or is wrong as asked for.

        An empty `url` or `challenge` leaves that tag out. Ends the test as inconclusive where
        there is no challenge to answer.
        """
        given = await self.challenged()
        if given is None:
            raise Inconclusive("the relay sends no AUTH")
        values = {
            "relay": self.url if url is None else url,
            "challenge": given if challenge is None else challenge,
        }
        tags = [(name, value) for name, value in values.items() if value]
        return signer.sign(kind, "", tags, now() if created_at is None else created_at)

    async def offer_authentication(self, event: WireEvent) -> Answer:
        """Send an AUTH and return its OK."""
        await self.send("AUTH", event)
        return await self.answer_to(event)

    async def authenticate(self, signer: Signer) -> None:
        """Authenticate; ends the test as inconclusive where the relay does not let us."""
        answer = await self.offer_authentication(await self.authentication(signer))
        if not answer.accepted:
            raise Inconclusive(f"the relay refuses to authenticate us: {answer.reason}")

    # inside

    def _handle(self, data: bytes, _at: float) -> None:
        text = data.decode(errors="replace")
        self._transcript.received(self.number, text)
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, list) or not message:
            self._violation = self._violation or f"{shown(text)} came"
        else:
            if message[0] == "AUTH" and len(message) > 1 and isinstance(message[1], str):
                self.challenge = message[1]
            self._unread.append(message)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()


class Subscription:
    """An open subscription, and what was stored when it was opened."""

    def __init__(self, client: Client, name: str, stored: Stored) -> None:
        self.client = client
        self.name = name
        self.stored = stored

    async def event(self, *expected: WireEvent) -> WireEvent:
        """Return the next new event; one of `expected`, if any are given."""
        ids = [event["id"] for event in expected]
        message = await self.client.receive(
            f"an EVENT for {self.name!r}" + (f" with the event {ids[0][:16]}…" if ids else ""),
            lambda m: m[:2] == ["EVENT", self.name] and (not ids or str(_id(m)) in ids),
        )
        return _event(message)

    async def nothing(self, *unwanted: WireEvent) -> None:
        """End the test as broken if an event comes: one of `unwanted`, if any are given."""
        ids = [event["id"] for event in unwanted]
        await self.client.nothing(
            f"EVENT for {self.name!r}" + (f" with the event {ids[0][:16]}…" if ids else ""),
            lambda m: m[:2] == ["EVENT", self.name] and (not ids or str(_id(m)) in ids),
        )

    async def close(self) -> None:
        """Send CLOSE."""
        await self.client.send("CLOSE", self.name)


def _is_challenge(message: Message) -> bool:
    return message[:1] == ["AUTH"]


def _answer(message: Message) -> Answer:
    accepted = message[2] if len(message) > 2 else None
    if type(accepted) is not bool:
        broken('["OK", <id>, <true|false>, <message>]', f"{shown(message)} came")
    reason = message[3] if len(message) > 3 else ""
    return Answer(accepted, reason if isinstance(reason, str) else "", message)


def _event(message: Message) -> WireEvent:
    event = message[2] if len(message) > 2 else None
    if not isinstance(event, dict) or not isinstance(event.get("id"), str):
        broken('["EVENT", <subscription id>, <event>]', f"{shown(message)} came")
    return event


def _id(message: Message) -> object:
    event = message[2] if len(message) > 2 else None
    return event.get("id") if isinstance(event, dict) else None
