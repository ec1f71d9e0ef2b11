"""Signatures that are checked by other processes: the same verdicts, and nothing lost with them."""

import os
import signal
from pathlib import Path

import msgspec
import pytest
import trio

from relay.errors import CompanionLost
from relay.protocol.event import Event
from relay.protocol.verify import SignatureVerifier
from relay.session.verification import Verification
from relay.session.verify_server import PROBLEMS, checks, judge
from tests.corpus import Author, event_message
from tests.served import Client, client, process_tree
from tests.session import wire
from tests.session.serving import Journal, notes, serve


def forged(event: Event, number: int) -> Event:
    """Return `event` as it is, or with a wrong key or signature; the id stays right or nearly."""
    other = Author("somebody else").sign(1, "x")
    return [
        event,
        msgspec.structs.replace(event, sig=other.sig),
        msgspec.structs.replace(event, sig=event.sig.upper()),
        msgspec.structs.replace(event, sig="x" * 128),
        msgspec.structs.replace(event, sig=" " + event.sig[1:]),
        msgspec.structs.replace(event, pubkey="f" * 64),
        msgspec.structs.replace(event, pubkey=event.pubkey.upper()),
    ][number % 7]


def batch(count: int) -> list[tuple[Event, bytes]]:
    return [
        (forged(event, number), bytes.fromhex(event.id))
        for number, event in enumerate(notes(count))
    ]


def verifier_processes() -> list[int]:
    return [
        child
        for child in process_tree(os.getpid())[1:]
        if b"verify_server" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


async def until_started() -> None:
    with trio.fail_after(20):
        # another process has no business knowing when a test wants to go on
        while not verifier_processes():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def send_at_once(publisher: Client, events: list[Event]) -> None:
    """Publish events in one piece, and so few that one turn of the reader makes them one batch."""
    assert len(events) < 32
    frames = b"".join([wire.text(event_message(event)) for event in events])
    await publisher.connection._stream.send_all(frames)


async def stopped_verifier() -> int:
    """Wait for the relay's verifier, and stop it."""
    await until_started()
    # time to get ready: one that never was is not started again
    await trio.sleep(1)
    (pid,) = verifier_processes()
    os.kill(pid, signal.SIGSTOP)
    return pid


async def until_taken(verification: Verification, events: list[tuple[Event, bytes]]) -> bytes:
    with trio.fail_after(20):
        while (ticket := await verification.begin(events)) is None:  # noqa: ASYNC110 - as above
            await trio.sleep(0.01)
        return await ticket.wait()


def test_the_other_process_judges_as_this_one_does() -> None:
    events, verifier = batch(70), SignatureVerifier()
    request = checks(events)
    assert request is not None
    expected = [verifier.problem(event, digest) for event, digest in events]
    assert [PROBLEMS[verdict] for verdict in judge(request, SignatureVerifier())] == expected
    assert set(expected) == set(PROBLEMS)


def test_what_is_not_ascii_stays_here() -> None:
    (event, digest), *_ = batch(1)
    assert checks([(msgspec.structs.replace(event, sig="ä" * 128), digest)]) is None
    assert checks([(msgspec.structs.replace(event, pubkey="ä" * 64), digest)]) is None


async def test_a_large_batch_is_checked_elsewhere_a_small_one_here() -> None:
    verification = Verification(1, Journal())
    async with trio.open_nursery() as nursery:
        await nursery.start(verification.run)
        events = batch(40)
        verdicts = await until_taken(verification, events)
        verifier = SignatureVerifier()
        expected = [verifier.problem(event, digest) for event, digest in events]
        assert [PROBLEMS[verdict] for verdict in verdicts] == expected
        assert await verification.begin(events[:5]) is None
        nursery.cancel_scope.cancel()
    assert verifier_processes() == []


async def test_nobody_waits_for_a_busy_companion() -> None:
    verification = Verification(1, Journal())
    async with trio.open_nursery() as nursery:
        await nursery.start(verification.run)
        events = batch(40)
        await until_taken(verification, events)
        (pid,) = verifier_processes()
        os.kill(pid, signal.SIGSTOP)
        under_way = await verification.begin(events)
        assert under_way is not None
        assert await verification.begin(events) is None
        os.kill(pid, signal.SIGCONT)
        assert len(await under_way.wait()) == 40
        nursery.cancel_scope.cancel()


async def test_a_killed_companion_fails_its_batch_and_is_started_again() -> None:
    journal = Journal()
    verification = Verification(1, journal)
    async with trio.open_nursery() as nursery:
        await nursery.start(verification.run)
        events = batch(40)
        verdicts = await until_taken(verification, events)
        (pid,) = verifier_processes()
        os.kill(pid, signal.SIGSTOP)
        under_way = await verification.begin(events)
        assert under_way is not None
        os.kill(pid, signal.SIGKILL)
        with trio.fail_after(10), pytest.raises(CompanionLost):
            await under_way.wait()
        assert await until_taken(verification, events) == verdicts
        assert verifier_processes() != [pid]
        nursery.cancel_scope.cancel()
    assert [line[1] for line in journal.errors()] == ["verifier lost"]


async def test_the_batch_of_a_killed_companion_is_checked_here() -> None:
    async with trio.open_nursery() as nursery:
        serving = await serve(nursery, verifiers=1)
        pid = await stopped_verifier()
        events = [forged(event, number % 5) for number, event in enumerate(notes(30))]
        async with client(serving.url) as publisher:
            await send_at_once(publisher, events)
            await publisher.expect("AUTH")
            await publisher.nothing(0.2)
            os.kill(pid, signal.SIGKILL)
            for number, event in enumerate(events):
                accepted = (await publisher.expect("OK", event.id))[2]
                assert accepted == (number % 5 == 0)
        nursery.cancel_scope.cancel()
    assert [line[1] for line in serving.journal.errors()] == ["verifier lost"]


async def test_the_batch_of_a_companion_that_is_stuck_is_checked_here() -> None:
    async with trio.open_nursery() as nursery:
        serving = await serve(nursery, verifiers=1)
        pid = await stopped_verifier()
        try:
            events = notes(30)
            async with client(serving.url) as publisher:
                await send_at_once(publisher, events)
                for event in events:
                    assert (await publisher.expect("OK", event.id))[2:] == [True, ""]
        finally:
            os.kill(pid, signal.SIGCONT)
        nursery.cancel_scope.cancel()
    assert [line[1] for line in serving.journal.errors()] == ["verifier stuck"]


async def test_forgeries_among_many_are_refused_each_with_its_reason() -> None:
    async with trio.open_nursery() as nursery:
        serving = await serve(nursery, verifiers=1)
        await until_started()
        genuine = notes(700)
        # a wrong signature leaves the id right; a wrong key does not
        events = [forged(event, number % 5) for number, event in enumerate(genuine)]
        async with client(serving.url) as publisher, client(serving.url) as reader:
            live = await reader.subscribe({"kinds": [1]})
            for event in events:
                await publisher.send(["EVENT", msgspec.to_builtins(event)])
            for number, event in enumerate(events):
                _, _, accepted, reason = await publisher.expect("OK", event.id)
                assert accepted == (number % 5 == 0)
                assert accepted or reason.startswith("invalid: the signature")
            for event in events[::5]:
                assert (await reader.event(live)).id == event.id
            await reader.nothing(0.05)
        nursery.cancel_scope.cancel()
