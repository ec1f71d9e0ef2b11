"""Talks to a relay as nostr-sdk (Rust) does, step by step.

`python -m tests.foreign.nostr_sdk_client ws://…` prints one JSON line for each step and one with
the verdict, and exits with 1 when a step failed. It is a process of its own because nostr-sdk
brings its own threads and wants asyncio.
"""

import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import nostr_sdk as sdk

NOTES: Final = 100
DEADLINE: Final = 20.0
Result = dict[str, Any] | None


class Authenticator(sdk.Authenticator):  # type: ignore[misc]  # nostr-sdk is untyped
    """Answers challenges, and remembers with which events."""

    def __init__(self, keys: sdk.Keys) -> None:
        self.keys = keys
        self.answers: list[str] = []

    async def make_auth_event(self, relay_url: sdk.RelayUrl, challenge: str) -> sdk.Event:
        tags = [["relay", str(relay_url)], ["challenge", challenge]]
        event = sign(self.keys, 22242, "", tags, int(time.time()))
        self.answers.append(identity(event))
        return event


def sign(
    keys: sdk.Keys, kind: int, content: str, tags: Sequence[list[str]], created_at: int
) -> sdk.Event:
    builder = sdk.EventBuilder(sdk.Kind(kind), content).tags([sdk.Tag.parse(tag) for tag in tags])
    return builder.custom_created_at(sdk.Timestamp.from_secs(created_at)).finalize(keys)


def identity(event: sdk.Event) -> str:
    return str(event.id().to_hex())


def nip01_order(events: Sequence[sdk.Event]) -> list[str]:
    ordered = sorted(events, key=lambda event: (-event.created_at().as_secs(), identity(event)))
    return [identity(event) for event in ordered]


class Connection:
    """One client, connected to one relay, and every message that it has received."""

    def __init__(self, url: str, keys: sdk.Keys | None = None) -> None:
        builder = sdk.ClientBuilder()
        self.authenticator = None if keys is None else Authenticator(keys)
        if self.authenticator is not None:
            builder = builder.authenticator(self.authenticator)
        self.client = builder.build()
        self.url = sdk.RelayUrl.parse(url)
        self.messages: list[sdk.RelayMessageEnum] = []
        self._heard = asyncio.Event()

    async def open(self) -> None:
        stream = self.client.notifications()
        self._listener = asyncio.create_task(self._listen(stream))
        await self.client.add_relay(self.url)
        await self.client.connect(and_wait=timedelta(seconds=DEADLINE))
        self.relay = await self.client.relay(self.url)

    async def close(self) -> None:
        await self.client.shutdown()
        self._listener.cancel()

    async def _listen(self, stream: sdk.ClientNotificationStream) -> None:
        while (notification := await stream.next()) is not None:
            if notification.is_message():
                self.messages.append(notification.message.as_enum())
                self._heard.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._heard.clear()
            await asyncio.wait_for(self._heard.wait(), DEADLINE)

    async def publish(self, event: sdk.Event) -> str | None:
        """Return `None` when the event was accepted, the relay's reason otherwise."""
        try:
            output = await self.client.send_event(event)
        except sdk.NostrSdkError as error:
            return str(error)
        return None if output.success else str(list(output.failed.values()))

    async def request(self, filter_: dict[str, Any]) -> list[str]:
        """Return the ids of the stored events that match, in the order of their arrival."""
        start = len(self.messages)
        name = await self.relay.subscribe(sdk.Filter.from_json(json.dumps(filter_)))

        def ended() -> bool:
            return any(
                m.is_end_of_stored_events() and m.subscription_id == name
                for m in self.messages[start:]
            )

        await self.until(ended)
        await self.relay.unsubscribe(name)
        return self.delivered(name, start)

    def delivered(self, name: str, start: int = 0) -> list[str]:
        found = []
        for message in self.messages[start:]:
            if message.is_event_msg() and message.subscription_id == name:
                if not message.event.verify():
                    raise AssertionError(f"not verifiable: {message.event.as_json()}")
                found.append(identity(message.event))
        return found

    async def watch(self, filter_: dict[str, Any]) -> str:
        """Subscribe and return the subscription's name after its EOSE."""
        name: str = await self.relay.subscribe(sdk.Filter.from_json(json.dumps(filter_)))
        await self.until(
            lambda: any(
                m.is_end_of_stored_events() and m.subscription_id == name for m in self.messages
            )
        )
        return name


class Conversation:
    """The steps, in order. Each is independent of the others' verdicts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys = sdk.Keys.generate()
        self.author = self.keys.public_key().to_hex()
        self.start = int(time.time()) - 3_600
        self.writer = Connection(url)
        self.reader = Connection(url)
        # two notes to a second, so that ties have to be ordered by id
        self.notes = [
            self.sign(1, f'note {number} "\u2028" 🤙', [["t", "foreign"]], number // 2)
            for number in range(NOTES)
        ]

    def sign(self, kind: int, content: str, tags: Sequence[list[str]], age: int) -> sdk.Event:
        return sign(self.keys, kind, content, tags, self.start + age)

    async def live(self) -> Result:
        name = await self.reader.watch({"authors": [self.author], "kinds": [1]})
        for note in self.notes:
            expect(await self.writer.publish(note), None)
        await self.reader.until(lambda: len(self.reader.delivered(name)) >= NOTES)
        await asyncio.sleep(0.2)
        expect(self.reader.delivered(name), [identity(note) for note in self.notes])
        await self.reader.relay.unsubscribe(name)
        return {"delivered": NOTES}

    async def stored(self) -> Result:
        found = await self.reader.request({"authors": [self.author], "kinds": [1]})
        expect(found, nip01_order(self.notes))
        expect(await self.reader.request({"authors": [self.author], "limit": 7}), found[:7])
        return {"stored": len(found)}

    async def count(self) -> Result:
        wanted = sdk.Filter.from_json(json.dumps({"authors": [self.author], "kinds": [1]}))
        expect(await self.reader.relay.count_events(wanted, timedelta(seconds=DEADLINE)), NOTES)
        return None

    async def replaceable(self) -> Result:
        versions = [self.sign(0, f'{{"name":"{age}"}}', [], age) for age in (1, 3, 2)]
        for version in versions:
            await self.writer.publish(version)
        found = await self.reader.request({"authors": [self.author], "kinds": [0]})
        expect(found, [identity(versions[1])])
        return None

    async def addressable(self) -> Result:
        versions = [
            self.sign(30023, f"{name} {age}", [["d", name]], age)
            for name, age in (("a", 1), ("b", 1), ("a", 2))
        ]
        for version in versions:
            expect(await self.writer.publish(version), None)
        for name, newest in (("a", versions[2]), ("b", versions[1])):
            wanted = {"authors": [self.author], "kinds": [30023], "#d": [name]}
            expect(await self.reader.request(wanted), [identity(newest)])
        return None

    async def ephemeral(self) -> Result:
        name = await self.reader.watch({"authors": [self.author], "kinds": [20001]})
        event = self.sign(20001, "now", [], 0)
        expect(await self.writer.publish(event), None)
        await self.reader.until(lambda: bool(self.reader.delivered(name)))
        expect(self.reader.delivered(name), [identity(event)])
        await self.reader.relay.unsubscribe(name)
        expect(await self.reader.request({"ids": [identity(event)]}), [])
        return None

    async def deletion(self) -> Result:
        gone = self.notes[:3]
        ids = [identity(note) for note in gone]
        request = self.sign(5, "regretted", [["e", each] for each in ids], 1_000)
        expect(await self.writer.publish(request), None)
        expect(await self.reader.request({"ids": ids}), [])
        deletions = {"authors": [self.author], "kinds": [5]}
        expect(await self.reader.request(deletions), [identity(request)])
        await self.writer.publish(gone[0])
        expect(await self.reader.request({"ids": ids}), [])
        return None

    async def authentication(self) -> Result:
        event = self.sign(1, "mine alone", [["-"]], 2_000)
        refusal = await self.writer.publish(event)
        if refusal is None:
            raise AssertionError("a protected event was accepted without authentication")
        connection = Connection(self.url, self.keys)
        await connection.open()
        try:
            expect(await connection.publish(event), None)
            authenticator = connection.authenticator
            answers = [] if authenticator is None else authenticator.answers

            def accepted() -> bool:
                oks = [m for m in connection.messages if m.is_ok() and m.status]
                return any(m.event_id.to_hex() in answers for m in oks)

            await connection.until(accepted)
        finally:
            await connection.close()
        expect(await self.reader.request({"ids": [identity(event)]}), [identity(event)])
        return {"refusal": refusal}

    async def information(self) -> Result:
        request = urllib.request.Request(
            self.url.replace("ws:", "http:", 1), headers={"Accept": "application/nostr+json"}
        )
        raw = await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=10).read())
        document = sdk.RelayInformationDocument.from_json(raw.decode())
        supported = document.supported_nips() or []
        missing = {1, 9, 11, 42}.difference(supported)
        expect(missing, set())
        return {"supported": list(supported)}

    async def run(self) -> list[str]:
        """Take every step; return the names of those that failed."""
        steps: list[tuple[str, Callable[[], Awaitable[Result]]]] = [
            ("live: each note once, in publish order", self.live),
            ("stored: each note once, newest first, ties by lowest id", self.stored),
            ("count", self.count),
            ("replaceable: the newest wins", self.replaceable),
            ("addressable: the newest of each d wins", self.addressable),
            ("ephemeral: delivered and not stored", self.ephemeral),
            ("deletion: gone, and stays gone when published again", self.deletion),
            ("authentication opens what is protected", self.authentication),
            ("information document", self.information),
        ]
        # nostr-sdk calls the authenticator from a thread of its own
        sdk.uniffi_set_event_loop(asyncio.get_running_loop())
        await self.writer.open()
        await self.reader.open()
        failed = []
        for name, step in steps:
            try:
                result = await asyncio.wait_for(step(), DEADLINE) or {}
                print(json.dumps({"step": name, "ok": True, **result}), flush=True)
            except Exception as error:  # noqa: BLE001 - whatever went wrong is the step's verdict
                failed.append(name)
                line = {"step": name, "ok": False, "error": f"{type(error).__name__}: {error}"}
                print(json.dumps(line), flush=True)
        await self.writer.close()
        await self.reader.close()
        return failed


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{str(found)[:400]} instead of {str(wanted)[:400]}")


def main() -> int:
    failed = asyncio.run(Conversation(sys.argv[1]).run())
    verdict = "failed" if failed else "passed"
    print(json.dumps({"verdict": verdict, "failed": failed}), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
