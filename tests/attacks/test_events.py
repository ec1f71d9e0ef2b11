"""Floods of events: the same again and again, forged in every way, and as large as they may be."""

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio

from relay.protocol.event import Event, computed_id
from tests.attacks.peer import Peer, peer, together
from tests.attacks.witness import unharmed, unharmed_process
from tests.corpus import Author
from tests.served import served_relay
from tests.session.serving import NOW, notes, serve
from tests.session.test_verification import until_started

REPEATED: Final = 10_000
AT_ONCE: Final = 250

GENUINE: Final = Author("genuine")
FORGER: Final = Author("forger")


def changed(event: Event, **fields: Any) -> Event:
    return msgspec.structs.replace(event, **fields)


def reidentified(event: Event, **fields: Any) -> Event:
    """Return the event with changed fields, and the id that fits them; the signature does not."""
    other = changed(event, **fields)
    return changed(other, id=computed_id(other))


FORGERIES: Final[dict[str, tuple[Callable[[Event], Event], str]]] = {
    "unsigned": (lambda e: changed(e, sig="0" * 128), "invalid: the signature"),
    "signed with noise": (
        lambda e: changed(e, sig=secrets.token_hex(64)),
        "invalid: the signature",
    ),
    "signed by another": (
        lambda e: changed(e, sig=FORGER.sign(e.kind, e.content, e.tags, e.created_at).sig),
        "invalid: the signature",
    ),
    "signed for another event": (
        lambda e: changed(e, sig=GENUINE.sign(1, "another").sig),
        "invalid: the signature",
    ),
    "signed in upper case": (lambda e: changed(e, sig=e.sig.upper()), "invalid: the signature"),
    "no signature at all": (lambda e: changed(e, sig="é" * 128), "invalid: the signature"),
    "another's, as one's own": (
        lambda e: reidentified(e, pubkey=FORGER.pubkey),
        "invalid: the signature",
    ),
    "one's own, as another's": (
        lambda e: changed(
            reidentified(e, content="I never said that"),
            sig=FORGER.sign(e.kind, "I never said that", e.tags, e.created_at).sig,
        ),
        "invalid: the signature",
    ),
    "another content": (lambda e: changed(e, content="mutated"), "invalid: the id"),
    "another content and its id": (
        lambda e: reidentified(e, content="mutated"),
        "invalid: the signature",
    ),
    "another tag": (lambda e: changed(e, tags=(("t", "mutated"),)), "invalid: the id"),
    "another tag and its id": (
        lambda e: reidentified(e, tags=(("t", "mutated"),)),
        "invalid: the signature",
    ),
    "another time": (lambda e: changed(e, created_at=e.created_at - 1), "invalid: the id"),
    "another kind": (lambda e: changed(e, kind=7), "invalid: the id"),
    "another id": (lambda e: changed(e, id="0" * 64), "invalid: the id"),
    "its id in upper case": (lambda e: changed(e, id=e.id.upper()), "invalid: the id"),
    "an id that is no hexadecimal": (lambda e: changed(e, id="é" * 64), "invalid: the id"),
    "a key that is on no curve": (
        lambda e: reidentified(e, pubkey="0" * 64),
        "invalid: the pubkey",
    ),
    "a key beyond the field": (lambda e: reidentified(e, pubkey="f" * 64), "invalid: the pubkey"),
    "a key in upper case": (
        lambda e: reidentified(e, pubkey=e.pubkey.upper()),
        "invalid: the pubkey",
    ),
    "a key of blanks": (lambda e: reidentified(e, pubkey=" " * 64), "invalid: the pubkey"),
    "a key that is no hexadecimal": (
        lambda e: reidentified(e, pubkey="é" * 64),
        "invalid: the pubkey",
    ),
}


async def publish(one: Peer, events: Sequence[Event]) -> list[tuple[bool, str]]:
    """Publish events, many in flight; return the answers, in order."""
    answers: list[tuple[bool, str]] = []
    for start in range(0, len(events), AT_ONCE):
        some = events[start : start + AT_ONCE]
        await one.publish(*some)
        answers_of_some: dict[str, list[tuple[bool, str]]] = {}
        for _ in some:
            _, event_id, accepted, reason = await one.until("OK")
            answers_of_some.setdefault(event_id, []).append((accepted, reason))
        # of equal ids, in the order of arrival
        answers += [answers_of_some[event.id].pop(0) for event in some]
    return answers


@pytest.mark.parametrize("verifiers", [0, 1], ids=["inline", "with a verifier"])
async def test_no_forgery_is_accepted_and_none_is_heard_of(
    nursery: trio.Nursery, verifiers: int
) -> None:
    serving = await serve(nursery, verifiers=verifiers)
    if verifiers:
        await until_started()
    genuine = notes(40, author=GENUINE)
    async with unharmed(serving), peer(serving.port) as listener:
        await listener.send(["REQ", "all", {"kinds": [1, 7], "authors": authors_of(genuine)}])
        await listener.until("EOSE")

        async def attack(name: str) -> None:
            forge, reason = FORGERIES[name]
            async with peer(serving.port) as one:
                for accepted, said in await publish(one, [forge(event) for event in genuine]):
                    assert not accepted, name
                    assert said.startswith(reason), f"{name}: {said}"

        await together([partial(attack, name) for name in FORGERIES])
        # and they have not stood in the way of what is genuine
        async with peer(serving.port) as one:
            assert await publish(one, genuine) == [(True, "")] * len(genuine)
        heard = [(await listener.until("EVENT"))[2] for _ in genuine]
        assert [msgspec.convert(event, Event) for event in heard] == genuine
        await listener.alive()
        assert sum(message[0] == "EVENT" for message in listener.heard) == len(genuine)


def authors_of(genuine: Sequence[Event]) -> list[str]:
    return [genuine[0].pubkey, FORGER.pubkey]


@pytest.mark.parametrize("verifiers", [0, 1], ids=["inline", "with a verifier"])
async def test_a_forgery_beside_the_genuine_event_neither_replaces_nor_prevents_it(
    nursery: trio.Nursery, verifiers: int
) -> None:
    """The same id, at the same time, from two connections: one is true."""
    serving = await serve(nursery, verifiers=verifiers)
    if verifiers:
        await until_started()
    genuine = [GENUINE.sign(kind, f"{n}", [], NOW) for n in range(120) for kind in (1, 20_001)]
    forged = [changed(event, sig=secrets.token_hex(64)) for event in genuine]
    async with unharmed(serving), peer(serving.port) as listener:
        await listener.send(["REQ", "all", {"authors": [GENUINE.pubkey]}])
        await listener.until("EOSE")
        outcomes: dict[str, list[tuple[bool, str]]] = {}

        async def send(name: str, events: Sequence[Event]) -> None:
            async with peer(serving.port) as one:
                for start in range(0, len(events), 40):
                    outcomes.setdefault(name, []).extend(
                        await publish(one, events[start : start + 40])
                    )

        await together(
            [
                partial(send, "forged", forged),
                partial(send, "genuine", genuine),
                partial(send, "forged again", forged),
            ]
        )
        assert outcomes["genuine"] == [(True, "")] * len(genuine)
        for name in ("forged", "forged again"):
            for accepted, reason in outcomes[name]:
                # once the genuine one is stored, the same id is the same event: a duplicate
                assert reason.startswith("duplicate:" if accepted else "invalid: the signature")
        heard = [msgspec.convert((await listener.until("EVENT"))[2], Event) for _ in genuine]
        # the order is that of the store, in which ephemeral events have no place
        assert sorted(heard, key=lambda event: event.id) == sorted(genuine, key=lambda e: e.id)
        assert [e for e in heard if e.kind == 1] == [e for e in genuine if e.kind == 1]
        await listener.send(["REQ", "stored", {"authors": [GENUINE.pubkey], "limit": 5000}])
        stored = [(await listener.until("EVENT", "stored"))[2] for _ in range(120)]
        await listener.until("EOSE", "stored")
        by_id = {event.id: event for event in genuine}
        for one_stored in stored:
            event = msgspec.convert(one_stored, Event)
            assert event == by_id[event.id], "what is stored is not what was signed"


async def test_the_same_event_10000_times_is_one_event(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    (note,) = notes(1, author=GENUINE)
    outcomes: Counter[str] = Counter()

    async def attack() -> None:
        async with peer(serving.port) as one:
            for accepted, reason in await publish(one, [note] * (REPEATED // 4)):
                assert accepted
                outcomes[reason.partition(":")[0]] += 1

    async with unharmed(serving), peer(serving.port) as listener:
        await listener.send(["REQ", "x", {"ids": [note.id]}])
        await listener.until("EOSE")
        await together([attack] * 4)
        assert outcomes == {"": 1, "duplicate": REPEATED - 1}
        await listener.alive()
        assert sum(message[0] == "EVENT" for message in listener.heard) == 1


async def test_an_ephemeral_event_sent_again_and_again_is_delivered_once(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    event = GENUINE.sign(20_001, "now", [], NOW)

    async def attack() -> None:
        async with peer(serving.port) as one:
            await publish(one, [event] * 500)

    async with unharmed(serving), peer(serving.port) as listener:
        await listener.send(["REQ", "x", {"kinds": [20_001]}])
        await listener.until("EOSE")
        await together([attack] * 4)
        await listener.alive()
        assert sum(message[0] == "EVENT" for message in listener.heard) == 1


async def test_requests_for_deletion_of_what_is_anothers_delete_nothing(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    theirs = notes(20, author=GENUINE)
    profile = GENUINE.sign(0, "{}", [], NOW)
    targets: list[tuple[str, ...]] = [("e", event.id) for event in theirs]
    targets += [("a", f"0:{GENUINE.pubkey}:"), ("a", f"0:{GENUINE.pubkey}"), ("a", ":::"), ("a",)]
    targets += [("e", "é" * 64), ("e", ""), ("a", f"99999999999999999999:{GENUINE.pubkey}:x")]
    requests = [FORGER.sign(5, f"{n}", targets, NOW) for n in range(50)]
    forged = [reidentified(event, pubkey=GENUINE.pubkey) for event in requests]
    async with unharmed(serving), peer(serving.port) as one:
        assert await publish(one, [*theirs, profile]) == [(True, "")] * 21
        assert {accepted for accepted, _ in await publish(one, requests)} == {True}
        assert {accepted for accepted, _ in await publish(one, forged)} == {False}
        await one.send(["COUNT", "left", {"authors": [GENUINE.pubkey]}])
        assert (await one.until("COUNT"))[2] == {"count": 21}
        # a known event stays known, however often deletion was asked for
        assert await publish(one, theirs) == [
            (True, "duplicate: this event is already stored")
        ] * len(theirs)


def large(number: int) -> list[Event]:
    """Return events as large as a message may be, in different ways."""
    author = Author(f"large {number}")
    return [
        author.sign(1, "x" * 399_000, [], NOW),
        author.sign(1, "\0" * 75_000, [], NOW),
        author.sign(1, "😀" * 100_000, [], NOW),
        author.sign(1, "", [("t", f"{n}") for n in range(19_000)], NOW),
        author.sign(1, "", [("p", f"{n:064x}") for n in range(6_000)], NOW),
        author.sign(1, "", [("t", *map(str, range(60_000)))], NOW),
        author.sign(1, "", [("x",)] * 20_000, NOW),
        author.sign(5, "", [("e", f"{n:064x}") for n in range(6_000)], NOW),
        author.sign(5, "", [("a", f"30023:{author.pubkey}:{n}") for n in range(5_000)], NOW),
        author.sign(3, "", [("p", f"{n:064x}") for n in range(6_000)], NOW),
        author.sign(30_023, "", [("d", "x" * 390_000)], NOW),
        author.sign(6, "[" * 300_000, [], NOW),
        author.sign(6, '{"tags":' + "[" * 100_000 + '"-"', [], NOW),
    ]


TOO_LARGE: Final[dict[str, tuple[Callable[[], Event], str]]] = {
    "content": (lambda: FORGER.sign(1, "x" * 400_001, [], NOW), "invalid: the content has 400001"),
    "tags": (lambda: FORGER.sign(1, "", [("x",)] * 20_001, NOW), "invalid: 20001 tags"),
}


async def test_events_as_large_as_allowed_hold_nobody_up(tmp_path: Path) -> None:
    with served_relay(tmp_path) as relay:
        async with unharmed_process(relay):

            async def attack(number: int) -> None:
                async with peer(relay.port) as one:
                    for event in large(number):
                        assert await publish(one, [event]) == [(True, "")], event.kind
                    for make, reason in TOO_LARGE.values():
                        [(accepted, said)] = await publish(one, [make()])
                        assert not accepted
                        assert said.startswith(reason)

            await together([partial(attack, number) for number in range(1)])


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_flood_of_large_events_and_forgeries_holds_nobody_up(
    tmp_path: Path, scale: float
) -> None:
    rounds = max(1, int(10 * scale))
    with served_relay(tmp_path, config="verifiers = 1\n") as relay:
        async with unharmed_process(relay):

            async def flood(number: int) -> None:
                async with peer(relay.port) as one:
                    for turn in range(rounds):
                        events = large(number * rounds + turn)
                        forged = [changed(event, sig=secrets.token_hex(64)) for event in events]
                        for event in [*forged, *events]:
                            [(accepted, _)] = await publish(one, [event])
                            assert accepted == (event in events)

            async def forge(number: int) -> None:
                genuine = notes(500, author=Author(f"flood {number}"))
                async with peer(relay.port) as one:
                    for _ in range(rounds):
                        forged = [changed(e, sig=secrets.token_hex(64)) for e in genuine]
                        outcomes = await publish(one, forged)
                        assert {accepted for accepted, _ in outcomes} == {False}

            await together(
                [partial(flood, n) for n in range(4)] + [partial(forge, n) for n in range(4)]
            )
