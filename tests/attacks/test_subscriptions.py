"""Subscriptions by the thousand: opened, replaced and closed in storms, beside an honest one."""

import json
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import pytest
import trio

from relay.protocol.limits import Limits
from tests.attacks.peer import Peer, peer, together
from tests.attacks.witness import unharmed
from tests.corpus import Author
from tests.session import wire
from tests.session.serving import Serving, notes, serve

CHURN: Final = 10_000
AT_ONCE: Final = 200
"""So many messages are sent before their answers are read."""


async def ask(one: Peer, requests: Iterable[list[Any]], answers: dict[str, list[Any]]) -> None:
    """Send requests that have one answer each, and note the answer under its subscription id."""
    waiting: list[list[Any]] = []

    async def settle() -> None:
        await one.send(*waiting)
        for _ in waiting:
            while (answer := await one.message())[0] not in ("EOSE", "CLOSED", "COUNT"):
                pass
            answers[answer[1]] = answer
        waiting.clear()

    for request in requests:
        waiting.append(request)
        if len(waiting) == AT_ONCE:
            await settle()
    await settle()


async def test_of_10000_subscriptions_on_one_connection_200_are_open(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    async with unharmed(serving), peer(serving.port) as one:
        answers: dict[str, list[Any]] = {}
        await ask(one, [["REQ", f"{n}", {"kinds": [30_000 + n]}] for n in range(10_000)], answers)
        assert [answers[f"{n}"][0] for n in range(200)] == ["EOSE"] * 200
        for number in range(200, 10_000):
            kind, _, reason = answers[f"{number}"]
            assert kind == "CLOSED"
            assert reason.startswith("restricted: 200 subscriptions are open")
        await serving.until(subscriptions=201)
        await one.send(["CLOSE", "0"])
        await ask(one, [["REQ", "there is room again", {"kinds": [1]}]], answers)
        assert answers["there is room again"][0] == "EOSE"


def filters_of(number: int) -> dict[str, Any]:
    """Return a filter unlike any other."""
    shapes: list[dict[str, Any]] = [
        {"kinds": [1, number % 60_000 + 2], "since": number},
        {"authors": [f"{number:064x}"]},
        {"#t": [f"topic {number}", "everybody's"]},
        {"ids": [f"{number:064x}"]},
        {"since": number},
    ]
    return shapes[number % 5]


async def storm(serving: Serving, connections: int, each: int) -> None:
    """Open subscriptions on many connections; replace them, close half, and leave in any way."""
    published = notes(3, author=Author("storm"))
    everybody = trio.Event()
    arrived = 0

    async def attack(number: int) -> None:
        nonlocal arrived
        async with peer(serving.port) as one:
            names = [f"{number} {n}" for n in range(each)]
            answers: dict[str, list[Any]] = {}
            for generation in (0, 1_000_000):
                requests = [
                    ["REQ", name, filters_of(generation + number * each + n)]
                    for n, name in enumerate(names)
                ]
                await ask(one, requests, answers)
                assert {answer[0] for answer in answers.values()} == {"EOSE"}
                assert answers.keys() == set(names)
            arrived += 1
            if arrived == connections:
                everybody.set()
            await everybody.wait()
            if number == 0:
                assert serving.server.subscriptions == connections * each + 1
                await one.publish(*published)
            await one.send(*[["CLOSE", name] for name in names[::2]])
            if number % 3 == 1:
                one.reset()
            elif number % 3 == 2:
                one.leave()

    async with unharmed(serving):
        await together([partial(attack, number) for number in range(connections)], connections)


async def test_many_connections_with_many_distinct_filters_come_and_go(
    nursery: trio.Nursery,
) -> None:
    await storm(await serve(nursery), 40, 50)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_10000_subscriptions_of_200_connections_come_and_go(
    nursery: trio.Nursery, scale: float
) -> None:
    await storm(await serve(nursery), max(40, int(200 * scale)), 50)


async def test_one_id_opened_and_closed_10000_times_leaves_nothing(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    async with unharmed(serving), peer(serving.port) as one:
        opened, eose = 0, 0
        while opened < CHURN:
            await one.send(*[["REQ", "x", {"kinds": [30_000 + opened]}], ["CLOSE", "x"]] * AT_ONCE)
            opened += AT_ONCE
            # the first page is sent by the reader: a CLOSE right behind does not take it back
            while eose < opened:
                eose += (await one.message())[0] == "EOSE"
        await one.alive()
        assert serving.server.subscriptions == 1, "the witness's only"


async def test_one_id_replaced_10000_times_is_one_subscription(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    first, last = notes(2, author=Author("churn"))
    async with unharmed(serving), peer(serving.port) as one:
        await one.publish(first)
        await one.until("OK", first.id)
        replaced, eose = 0, 0
        wanted = {"authors": [first.pubkey]}
        while replaced < CHURN:
            await one.send(*[["REQ", "x", wanted]] * AT_ONCE)
            replaced += AT_ONCE
            while eose < replaced:
                eose += (await one.message())[0] == "EOSE"
        assert serving.server.subscriptions == 2
        heard = sum(message[0] == "EVENT" for message in one.heard)
        assert heard == CHURN, "each of them is asked for what is stored, once"
        await one.publish(last)
        assert (await one.until("EVENT", "x"))[2]["id"] == last.id
        await one.alive()
        assert sum(message[0] == "EVENT" for message in one.heard) == CHURN + 1


async def test_what_a_connection_keeps_open_is_bounded_however_it_is_divided(
    nursery: trio.Nursery,
) -> None:
    """200 subscriptions of 100 filters would be compared with every event, on every connection."""
    limits = Limits(max_filters=20, max_filter_values=500)
    serving = await serve(nursery, limits=limits)

    async def many_filters() -> None:
        async with peer(serving.port) as one:
            answers: dict[str, list[Any]] = {}
            requests = [
                ["REQ", f"{n}", *[{"since": n * 20 + m} for m in range(20)]] for n in range(200)
            ]
            await ask(one, requests, answers)
            opened = [name for name, answer in answers.items() if answer[0] == "EOSE"]
            assert len(opened) * 20 == limits.max_open_filters
            assert len(serving.core.matcher) <= len(opened) * 10 + 1

    async def many_values() -> None:
        async with peer(serving.port) as one:
            answers: dict[str, list[Any]] = {}
            requests = [
                ["REQ", f"{n}", {"#t": [f"{n} {m}" for m in range(500)]}] for n in range(200)
            ]
            await ask(one, requests, answers)
            opened = [name for name, answer in answers.items() if answer[0] == "EOSE"]
            assert len(opened) * 500 == limits.max_open_values

    async with unharmed(serving):
        await together([many_filters, many_values] * 5)


async def test_requests_whose_answers_are_never_read_are_not_taken_without_end(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    async with unharmed(serving), peer(serving.port) as one:
        await one.publish(*notes(200, author=Author("unread"), size=2_000))
        await one.until("OK")
        requests = [["REQ", f"{n}", {}] for n in range(200)]
        # what is refused is answered, too, and at once
        requests += [["NEG-OPEN", f"{n}" + "x" * 1_000, {}, ""] for n in range(200)]
        data = b"".join([wire.text(json.dumps(request)) for request in requests])
        with trio.move_on_after(1.5):
            while True:
                await one.stream.send_all(data)
        # the reader has paused: TCP pushes back on whoever does not read
        for connection in serving.server._connections:
            assert connection.writer.queued_bytes < 4 << 20
