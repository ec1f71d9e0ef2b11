"""Somebody with a key and a connection, as nostr-sdk makes them."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import nostr_sdk as sdk

from tests.foreign.nostr_sdk_client.scene import Closed, identity

DEADLINE: Final = 15.0
COUNT_ATTEMPTS: Final = 8
COUNT_TIMEOUT: Final = timedelta(seconds=0.5)
Filter = dict[str, Any]


def now() -> int:
    """Return the time in Unix seconds."""
    return int(time.time())


def sign(
    keys: sdk.Keys,
    kind: int,
    content: str = "",
    tags: Sequence[Sequence[str]] = (),
    created_at: int | None = None,
) -> sdk.Event:
    """Return an event signed with `keys`, of now unless told otherwise."""
    builder = sdk.EventBuilder(sdk.Kind(kind), content)
    builder = builder.tags([sdk.Tag.parse(list(tag)) for tag in tags])
    at = now() if created_at is None else created_at
    return builder.custom_created_at(sdk.Timestamp.from_secs(at)).finalize(keys)


class Authenticator(sdk.Authenticator):  # type: ignore[misc]  # nostr-sdk is untyped
    """Answers challenges, and remembers with which events."""

    def __init__(self, keys: sdk.Keys) -> None:
        self.keys = keys
        self.answers: list[str] = []

    async def make_auth_event(self, relay_url: sdk.RelayUrl, challenge: str) -> sdk.Event:
        """Answer `challenge`."""
        tags = [["relay", str(relay_url)], ["challenge", challenge]]
        event = sign(self.keys, 22242, "", tags)
        self.answers.append(identity(event))
        return event


class Party:
    """One client, connected to one relay, and every message that it has received.

    With `signer`, it answers the relay's challenge.
    """

    def __init__(
        self,
        url: str,
        keys: sdk.Keys | None = None,
        *,
        signer: bool = False,
        database: sdk.NostrDatabase | None = None,
    ) -> None:
        self.keys = sdk.Keys.generate() if keys is None else keys
        self.pubkey = self.keys.public_key().to_hex()
        builder = sdk.ClientBuilder()
        self.authenticator = Authenticator(self.keys) if signer else None
        if self.authenticator is not None:
            builder = builder.authenticator(self.authenticator)
        if database is not None:
            builder = builder.database(database)
        self.client = builder.build()
        self.url = sdk.RelayUrl.parse(url)
        self.relay: sdk.Relay = None
        self.messages: list[sdk.RelayMessageEnum] = []
        self._heard = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None

    @classmethod
    async def connected(cls, url: str, keys: sdk.Keys | None = None, **options: Any) -> "Party":
        """Connect somebody."""
        party = cls(url, keys, **options)
        stream = party.client.notifications()
        party._listener = asyncio.create_task(party._listen(stream))
        await party.client.add_relay(party.url)
        await party.client.connect(and_wait=timedelta(seconds=DEADLINE))
        party.relay = await party.client.relay(party.url)
        return party

    @classmethod
    async def authenticated(cls, url: str, keys: sdk.Keys | None = None) -> "Party":
        """Connect somebody and wait until the relay knows who it is."""
        party = await cls.connected(url, keys, signer=True)
        await party.until(lambda: party.knows_me)
        return party

    @property
    def knows_me(self) -> bool:
        """Whether an answer to a challenge was accepted."""
        answers = [] if self.authenticator is None else self.authenticator.answers
        return any(m.is_ok() and m.status and m.event_id.to_hex() in answers for m in self.messages)

    async def _listen(self, stream: sdk.ClientNotificationStream) -> None:
        while (notification := await stream.next()) is not None:
            if notification.is_message():
                self.messages.append(notification.message.as_enum())
                self._heard.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds after a message has come; at most `DEADLINE`."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._heard.clear()
                await self._heard.wait()

    def sign(
        self,
        kind: int,
        content: str = "",
        tags: Sequence[Sequence[str]] = (),
        created_at: int | None = None,
    ) -> sdk.Event:
        """Return an event of this party's."""
        return sign(self.keys, kind, content, tags, created_at)

    async def publish(self, event: sdk.Event) -> list[Any]:
        """Publish an event; return the OK as `[accepted, reason]`."""
        start = len(self.messages)
        try:
            output = await self.client.send_event(event)
        except sdk.NostrSdkError as error:
            return [False, str(error)]
        if not output.success:
            return [False, str(next(iter(output.failed.values())))]
        wanted = identity(event)

        def answers() -> list[sdk.RelayMessageEnum]:
            found = [m for m in self.messages[start:] if m.is_ok()]
            return [m for m in found if m.event_id.to_hex() == wanted]

        await self.until(lambda: bool(answers()))
        return [answers()[-1].status, answers()[-1].message]

    async def watch(self, filter_: Filter) -> "Watched":
        """Subscribe; return after EOSE, or after the relay has closed it."""
        name = await self.relay.subscribe(sdk.Filter.from_json(json.dumps(filter_)))
        watched = Watched(self, name)
        await self.until(lambda: watched.settled)
        return watched

    async def ask(self, filter_: Filter) -> list[sdk.Event] | Closed:
        """Return the stored events that match, or why the relay closed the request."""
        watched = await self.watch(filter_)
        await self.relay.unsubscribe(watched.name)
        return watched.events if watched.closed is None else {"closed": watched.closed}

    async def count(self, filter_: Filter) -> int:
        """Return how many events match.

        nostr-sdk listens for the answer only after it has asked, and misses one that comes at
        once: then it is asked again.
        """
        wanted = sdk.Filter.from_json(json.dumps(filter_))
        for _ in range(COUNT_ATTEMPTS - 1):
            with contextlib.suppress(sdk.NostrSdkError):
                return int(await self.relay.count_events(wanted, COUNT_TIMEOUT))
        return int(await self.relay.count_events(wanted, COUNT_TIMEOUT))


class Watched:
    """One subscription, as far as its messages tell."""

    def __init__(self, party: Party, name: str) -> None:
        self.name = name
        self._party = party

    @property
    def events(self) -> list[sdk.Event]:
        """The events that were delivered, in their order."""
        found = []
        for message in self._party.messages:
            if message.is_event_msg() and message.subscription_id == self.name:
                if not message.event.verify():
                    raise AssertionError(f"not verifiable: {message.event.as_json()}")
                found.append(message.event)
        return found

    @property
    def closed(self) -> str | None:
        """Why the relay closed it, if it has."""
        for message in self._party.messages:
            if message.is_closed() and message.subscription_id == self.name:
                return str(message.message)
        return None

    @property
    def settled(self) -> bool:
        """Whether all that is stored has come, or nothing will."""
        return self.closed is not None or any(
            m.is_end_of_stored_events() and m.subscription_id == self.name
            for m in self._party.messages
        )
