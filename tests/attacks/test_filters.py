"""Filters that were built to be slow, from several connections, on a store that is not small.

The attackers only count answers, in bytes: whoever shares a process with the witness must not be
what the witness suffers from.
"""

import json
import string
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from relay.protocol.filters import parse_filter
from relay.protocol.limits import Limits
from relay.store.sqlite.reader import SQLiteReader
from relay.store.sqlite.scans import Row, View
from tests.attacks.peer import Peer, peer, together
from tests.attacks.stored import AUTHORS, TOPICS, events, fill, key
from tests.attacks.witness import unharmed_process
from tests.corpus import START
from tests.served import ServedRelay, served_relay
from tests.session import wire

EVENTS: Final = 2_000
SLOW_EVENTS: Final = 100_000
END: Final = 1 << 62

TOPIC_VALUES: Final = [f"topic{number}" for number in range(TOPICS)]
NOBODY: Final = [key(number) for number in range(5_000, 5_900)]
EVERYBODY: Final = [key(number) for number in range(AUTHORS)]
SHARED_PREFIX: Final = ["f" * 60 + f"{number:04x}" for number in range(5_000)]

SHAPES: Final[dict[str, list[dict[str, Any]]]] = {
    "everything": [{}],
    "everything, and as much of it as can be had": [{"limit": END}],
    "all tags and nobody": [{"#t": TOPIC_VALUES, "#p": NOBODY}],
    "all tags, and kinds that are not there": [
        {"#t": TOPIC_VALUES, "kinds": list(range(40_000, 41_000))}
    ],
    "tags that are not there": [{"#t": [f"nothing {number}" for number in range(9_000)]}],
    "every letter": [
        {
            f"#{letter}": [f"{n}" for n in range(150)]
            for letter in string.ascii_letters
            if letter not in "ep"
        }
    ],
    "all authors, a kind that is not there": [{"authors": EVERYBODY, "kinds": [40_000]}],
    "all authors, all tags": [{"authors": EVERYBODY, "#p": EVERYBODY, "kinds": [2]}],
    "authors that are not there": [{"authors": [key(n) for n in range(9_000, 16_000)]}],
    "every kind": [{"kinds": list(range(0, 65_536, 7))}],
    "ids with one prefix": [{"ids": SHARED_PREFIX}],
    "one letter or another": [{"#t": ["topic1"]}, {"#p": [key(1)]}, {"#d": ["1"]}],
    "a hundred that overlap": [
        {"since": START + number, "until": START + EVENTS - number} for number in range(100)
    ],
    "a hundred, hundreds of tags each": [
        {"#t": TOPIC_VALUES, "#p": NOBODY[number * 9 : number * 9 + 9]} for number in range(100)
    ],
    "from the end of time": [{"since": END, "until": 0}],
    "to the end of time": [{"since": 0, "until": END, "kinds": [1], "limit": 1}],
    "addresses that are not there": [
        {"#d": [f"{n}" for n in range(900)], "authors": NOBODY, "kinds": [30_023]}
    ],
    "a limit of nothing": [{"limit": 0}] * 100,
}
SHAPES.update(
    {
        f"search {text[:20]}": [{"search": text}]
        for text in (
            *(
                "*",
                '"',
                "a OR b",
                "NEAR(a b)",
                "content:x",
                "a AND NOT",
                "'; --",
                "^x",
                "\0",
                "\ud7ff",
            ),
            *("n*", "zz*", '"note note"', '"n"*', "note " * 200, " ".join(map(str, range(64)))),
            *("{title body} : note", '"a" + "b"', "title : a", "日本" * 30, "x" * 1_000, '" " " *'),
        )
    }
)
SHAPES["a hundred searches"] = [{"search": f"{n % 10}* note", "limit": 5_000} for n in range(100)]
SHAPES["a search by everybody"] = [{"search": "n*", "authors": EVERYBODY, "#t": TOPIC_VALUES}]
UNSUPPORTED: Final = [{"#ee": ["x"]}, {"#": ["x"]}, {"&t": ["x"]}, {"genre": "x"}]


def texts(verb: str, shapes: dict[str, list[dict[str, Any]]]) -> list[bytes]:
    """Return a request for each shape, as a frame."""
    return [wire.text(json.dumps([verb, name, *shape])) for name, shape in shapes.items()]


async def endings(one: Peer, count: int) -> None:
    """Read until so many requests have had their last answer."""
    while count > 0:
        heard = await one.raw()
        count -= heard.count(b'["EOSE",') + heard.count(b'["COUNT",')
        assert b'["CLOSED",' not in heard


async def test_the_shapes_are_answered_as_they_deserve(tmp_path: Path) -> None:
    """Slow as they are meant to be, they are not wrong: each has an answer, and the right count."""
    fill(tmp_path / "events.sqlite", 1_000)
    stored = [one.event for one in events(1_000)]
    limits = Limits()
    with served_relay(tmp_path) as relay:
        async with unharmed_process(relay), peer(relay.port) as one:
            for name, shape in SHAPES.items():
                filters = [parse_filter(value, limits) for value in shape]
                await one.send(["REQ", name, *shape])
                given = []
                while (message := await one.message())[:2] != ["EOSE", name]:
                    if message[:2] == ["EVENT", name]:
                        given.append(message[2]["id"])
                await one.send(["CLOSE", name])
                matching = {e.id for e in stored if any(f.matches(e) for f in filters)}
                assert len(given) == len(set(given)), name
                # what was replaced is not stored any more; what the witness says is
                if not matching:
                    assert not given, name
            for value in UNSUPPORTED:
                await one.send(["REQ", "unsupported", value])
                answer = await one.until("CLOSED", "unsupported")
                assert answer[2].startswith("unsupported: unknown filter field"), value


def in_a_row(number: int, requests: list[bytes]) -> list[bytes]:
    """Return the requests in an order of this attacker's own."""
    middle = number % len(requests)
    return requests[middle:] + requests[:middle]


async def attack(relay: ServedRelay, connections: int, rounds: int) -> None:
    requests = texts("REQ", SHAPES) + texts("COUNT", SHAPES)

    async def ask(number: int) -> None:
        async with peer(relay.port) as one:
            for _ in range(rounds):
                # some at a time: a client sends no more before it has heard something
                for request in in_a_row(number, requests):
                    await one.say(request)
                    await endings(one, 1)

    await together([partial(ask, number) for number in range(connections)], connections)


@pytest.mark.slow
async def test_slow_queries_under_way_by_the_hundred_hold_nobody_up(tmp_path: Path) -> None:
    """F4 across connections: each makes a page at its turn, and the turns take no longer."""
    fill(tmp_path / "events.sqlite", 20_000)
    slow = SHAPES["all tags and nobody"]
    requests = [wire.text(json.dumps(["REQ", f"{n}", *slow])) for n in range(20)]
    requests += [wire.text(json.dumps(["COUNT", f"count {n}", *slow])) for n in range(8)]
    with served_relay(tmp_path) as relay:
        async with unharmed_process(relay):

            async def ask() -> None:
                async with peer(relay.port) as one:
                    await one.say(*requests)
                    # far from finished; the witness has gone on all the same
                    await trio.sleep(8)

            await together([ask] * 30, at_once=30)


async def test_a_count_of_everything_on_many_connections_at_once_holds_nobody_up(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "events.sqlite", EVENTS)
    with served_relay(tmp_path) as relay:
        async with unharmed_process(relay):

            async def count() -> None:
                async with peer(relay.port) as one:
                    await one.say(wire.text('["COUNT","everything",{}]') * 20)
                    await endings(one, 20)

            await together([count] * 30, at_once=30)


def test_many_filters_that_overlap_cost_what_they_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the pages are: what a page has found, the next does not fetch for each anew."""
    fill(tmp_path / "events.sqlite", 2_000)
    limits = Limits()
    shape = SHAPES["a hundred that overlap"]
    filters = [parse_filter(value, limits) for value in shape]
    fetched = 0
    plain = View.fetch

    def counting(view: View, places: list[int]) -> list[Row]:
        nonlocal fetched
        fetched += len(places)
        return plain(view, places)

    monkeypatch.setattr(View, "fetch", counting)
    reader = SQLiteReader(tmp_path / "events.sqlite")
    query = reader.query(filters, limits.default_limit, START + 100_000_000)
    rows: list[bytes] = []
    finished = False
    while not finished:
        # a budget that is always over: every step is a page
        page = query.page(250, 1 << 20, lambda: True)
        rows += page.rows
        finished = page.finished
    reader.close()
    assert len(rows) == len(set(rows)) == 500
    assert fetched < 3 * len(rows)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_slow_requests_of_many_connections_hold_nobody_up(
    tmp_path: Path, scale: float
) -> None:
    fill(tmp_path / "events.sqlite", max(2 * EVENTS, int(SLOW_EVENTS * scale)))
    with served_relay(tmp_path) as relay:
        async with unharmed_process(relay):
            await attack(relay, connections=max(4, int(30 * scale)), rounds=1)
