"""COUNT (NIP-45) over real connections: exact, each event once, and registers where they belong."""

from typing import Any

import pytest
import trio

from relay.protocol.hyperloglog import HyperLogLog, offset_of
from relay.session.core import Capacity
from tests.corpus import Author
from tests.served import Client, client
from tests.session.serving import NOW, notes, serve
from tests.session.test_reading import somebody

TARGET = notes(1, author=Author("target"))[0]
ADMIRERS = [Author(f"admirer {number}") for number in range(30)]
FILTERS: dict[str, dict[str, Any]] = {
    "reactions": {"#e": [TARGET.id], "kinds": [7]},
    "reposts": {"#e": [TARGET.id], "kinds": [6]},
    "quotes": {"#q": [TARGET.id], "kinds": [1, 1111]},
    "replies": {"#e": [TARGET.id], "kinds": [1]},
    "comments": {"#E": [TARGET.id], "kinds": [1111]},
    "followers": {"#p": [TARGET.pubkey], "kinds": [3]},
}


async def answer(one: Client, *filters: dict[str, Any]) -> dict[str, Any]:
    name = await one._request("COUNT", filters, None)
    message = await one.expect("COUNT", name)
    content: dict[str, Any] = message[2]
    return content


def registers(filter_: dict[str, Any], *authors: Author) -> str:
    offset = offset_of(filter_)
    assert offset is not None
    sketch = HyperLogLog(offset)
    for author in authors:
        sketch.add(author.pubkey)
    return sketch.hex()


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("page_seconds", [0.005, 0.0])
async def test_the_common_counts_come_with_registers(
    nursery: trio.Nursery, name: str, page_seconds: float
) -> None:
    serving = await serve(nursery, capacity=Capacity(page_seconds=page_seconds))
    filter_ = FILTERS[name]
    [letter] = [field[1] for field in filter_ if field[0] == "#"]
    tag = [letter, filter_[f"#{letter}"][0]]
    async with client(serving.url) as one:
        assert await answer(one, filter_) == {"count": 0, "hll": "00" * 256}
        for number, author in enumerate(ADMIRERS):
            kind = filter_["kinds"][number % len(filter_["kinds"])]
            await one.accept(author.sign(kind, "", [tag], NOW - 10))
            # of another kind, and about another
            await one.accept(author.sign(9, "", [tag], NOW), author.sign(kind + 40, "", [], NOW))
        expected = {"count": 30, "hll": registers(filter_, *ADMIRERS)}
        assert await answer(one, filter_) == expected
        assert len(str(expected["hll"])) == 512
        # once more by the same author: another event, but nobody new
        again = ADMIRERS[0].sign(filter_["kinds"][0], "again", [tag], NOW)
        await one.accept(again)
        replaced = name == "followers"
        assert await answer(one, filter_) == {**expected, "count": 30 if replaced else 31}


async def test_other_counts_come_without(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    reactions, replies = FILTERS["reactions"], FILTERS["replies"]
    tag = ["e", TARGET.id]
    async with client(serving.url) as one:
        for author in ADMIRERS[:3]:
            await one.accept(author.sign(7, "+", [tag], NOW), author.sign(1, "yes", [tag], NOW))
        authors = {"authors": [author.pubkey for author in ADMIRERS]}
        assert await answer(one, {}) == {"count": 6}
        assert await answer(one, authors) == {"count": 6}
        # each event once, however many filters match it
        assert await answer(one, reactions, replies) == {"count": 6}
        assert await answer(one, reactions, reactions) == {"count": 3}
        assert await answer(one, reactions, authors, {"kinds": [7]}) == {"count": 6}
        # once more with its authors: still one filter, and eligible
        both = {**reactions, **authors}
        assert await answer(one, both) == {"count": 3, "hll": registers(both, *ADMIRERS[:3])}


async def test_registers_tell_of_nobody_who_is_hidden(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    asked = {"#p": [TARGET.pubkey]}
    writer, reader, other = ADMIRERS[:3]
    async with somebody(serving) as nobody, somebody(serving, reader) as one:
        await nobody.accept(
            writer.sign(1059, "", [["p", TARGET.pubkey], ["p", reader.pubkey]], NOW),
            other.sign(1, "", [["p", TARGET.pubkey]], NOW),
        )
        assert await answer(nobody, asked) == {"count": 1, "hll": registers(asked, other)}
        assert await answer(one, asked) == {"count": 2, "hll": registers(asked, other, writer)}


async def test_the_first_condition_and_value_are_those_that_were_sent(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)
    author = ADMIRERS[0]
    async with client(serving.url) as one:
        await one.accept(author.sign(1, "", [["t", "zebra"], ["e", TARGET.id]], NOW))
        answers = set()
        for asked in (
            {"#t": ["zebra", "ant"], "#e": [TARGET.id]},
            {"#t": ["ant", "zebra"], "#e": [TARGET.id]},
            {"#e": [TARGET.id], "#t": ["zebra"]},
        ):
            received = await answer(one, asked)
            assert received == {"count": 1, "hll": registers(asked, author)}
            answers.add(received["hll"])
        assert len(answers) == 3
