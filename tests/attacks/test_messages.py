"""Messages of every wrong kind: each is answered as the protocol prescribes, and once."""

import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import pytest
import trio

from relay.protocol.limits import Limits
from tests.attacks.peer import Peer, deflating, peer, together
from tests.attacks.witness import unharmed
from tests.corpus import Author, event_message
from tests.session import wire
from tests.session.serving import Serving, notes, serve

VALUES: Final[list[Any]] = [
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    1 << 70,
    "",
    "x",
    "x" * 65,
    "x" * 2000,
    '"\\\n\0',
    [],
    [[]],
    [None],
    {},
    {"id": None},
    {"id": "x"},
    {"id": "x" * 2000},
    {"ids": [1]},
    {"kinds": ["1"]},
    {"#e": ["x"]},
    {"limit": -1},
    {"search": "x"},
]
"""What may stand at any place of a message."""

OURS: Final = ("OK", "EOSE", "CLOSED", "NOTICE")
VERBS: Final[dict[str, set[str | None]]] = {
    "EVENT": {"OK", "NOTICE"},
    "AUTH": {"OK", "NOTICE"},
    "REQ": {"CLOSED", "NOTICE", "EOSE"},
    "COUNT": {"CLOSED", "NOTICE", "COUNT"},
    "CLOSE": {"NOTICE", None},
    "NEG-OPEN": {"NEG-ERR", "NOTICE"},
    "NEG-MSG": {"NEG-ERR", "NOTICE"},
    "NEG-CLOSE": {"NEG-ERR", "NOTICE", None},
    "NEG-ERR": {"NEG-ERR", "NOTICE"},
    **{verb: {"NOTICE"} for verb in (*OURS, "", "event", "REQ ", "x" * 10_000, "\n")},
}
"""With what each verb may be answered; `None` is no answer."""


async def answers(one: Peer, messages: Sequence[bytes]) -> list[list[Any]]:
    """Say messages, each followed by a question; return the answers before each of its answers."""
    found: list[list[Any]] = []
    for start in range(0, len(messages), 50):
        some = messages[start : start + 50]
        for number, message in enumerate(some, start):
            mark = json.dumps(["COUNT", f"mark {number}", {"ids": ["0" * 64]}])
            await one.say(wire.text(message), wire.text(mark))
        for number in range(start, start + len(some)):
            before: list[Any] = []
            while (answer := await one.message())[:2] != ["COUNT", f"mark {number}"]:
                if answer[0] not in ("AUTH", "EVENT"):
                    before.append(answer)
            found.append(before)
    return found


def sequences(verb: str) -> Iterator[list[Any]]:
    yield [verb]
    for first in VALUES:
        yield [verb, first]
        for second in VALUES[::3]:
            yield [verb, first, second]
    for last in VALUES:
        yield [verb, "x", {}, last]
        yield [verb, "x", {}, {}, last, {}]


def kinds_of(found: list[Any]) -> str | None:
    assert len(found) <= 1, f"one message had several answers: {found}"
    return found[0][0] if found else None


async def test_any_value_at_any_place_of_any_message_has_its_answer(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery)

    async def attack(verb: str) -> None:
        async with peer(serving.port) as one:
            await judge(one, verb)

    async def judge(one: Peer, verb: str) -> None:
        messages = list(sequences(verb))
        found = await answers(one, [json.dumps(message).encode() for message in messages])
        for message, before in zip(messages, found, strict=True):
            assert kinds_of(before) in VERBS[verb], f"{str(message)[:200]}: {str(before)[:200]}"
            for answer in before:
                if answer[0] in ("CLOSED", "EOSE", "NEG-ERR", "COUNT"):
                    assert answer[1] == message[1], "an answer to somebody else"
                if answer[0] == "OK":
                    assert answer[2] is False
                    assert answer[3].startswith("invalid: ")

    async with unharmed(serving):
        await together([partial(attack, verb) for verb in VERBS])


DEEP: Final = 200_000
NOT_JSON: Final = {
    "nothing": b"",
    "blanks": b" \t\r\n",
    "open brackets": b"[" * DEEP,
    "open brackets in a filter": b'["REQ","x",' + b"[" * DEEP,
    "open braces": b'{"":' * (DEEP // 4),
    "open braces in an event": b'["EVENT",' + b'{"tags":' * 10_000,
    "open brackets in an event's tags": b'["EVENT",{"tags":' + b"[" * DEEP,
    "brackets closed again": b"[" * 5_000 + b"]" * 5_000,
    "a long number": b"[" + b"9" * 400_000 + b"]",
    "a long number in a filter": b'["REQ","x",{"since":' + b"9" * 100_000 + b"}]",
    "a large exponent": b'["REQ","x",{"since":1e999999999}]',
    "not a number": b'["REQ","x",{"since":NaN}]',
    "infinity": b'["REQ","x",{"since":Infinity}]',
    "hexadecimal": b'["REQ","x",{"since":0x10}]',
    "a leading zero": b'["REQ","x",{"since":01}]',
    "a byte order mark": b'\xef\xbb\xbf["CLOSE","x"]',
    "a NUL before": b'\0["CLOSE","x"]',
    "a NUL behind": b'["CLOSE","x"]\0',
    "a NUL within": b'["CLOSE","\0"]',
    "a control character within": b'["CLOSE","\n"]',
    "junk behind": b'["CLOSE","x"]]',
    "a second message behind": b'["CLOSE","x"]["CLOSE","x"]',
    "a comma too many": b'["CLOSE","x",]',
    "single quotes": b"['CLOSE','x']",
    "a comment": b'["CLOSE","x"]//',
    "a high surrogate": b'["CLOSE","\\ud800"]',
    "a low surrogate": b'["CLOSE","\\udc00"]',
    "surrogates the wrong way round": b'["CLOSE","\\udc00\\ud800"]',
    "a bad escape": b'["CLOSE","\\x41"]',
    "half an escape": b'["CLOSE","\\u00"]',
    "SQL": b"'; DROP TABLE event; --",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}
NO_MESSAGE: Final = {
    "null": b"null",
    "a string": b'"REQ"',
    "a number": b"1",
    "an object": b'{"REQ":"x"}',
    "an empty array": b"[]",
    "a verb that is no string": b'[["REQ"],"x",{}]',
    "nulls": b"[" + b"null," * 100_000 + b"null]",
    "empty arrays": b"[" + b"[]," * 150_000 + b"[]]",
}


async def test_what_is_no_message_gets_a_notice(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    valid = event_message(notes(1)[0])
    cut = {f"an event cut at {at}": valid[:at] for at in range(0, len(valid), 7)}
    texts = NOT_JSON | NO_MESSAGE | cut

    async def attack(name: str) -> None:
        async with peer(serving.port) as one:
            [before] = await answers(one, [texts[name]])
            assert kinds_of(before) == "NOTICE", f"{name}: {before}"
            assert before[0][1].startswith("invalid: ")
            if name not in NO_MESSAGE:
                assert "JSON" in before[0][1], f"{name}: {before}"

    async with unharmed(serving):
        await together([partial(attack, name) for name in texts])


async def test_of_keys_that_are_given_twice_the_last_counts(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    (note,) = notes(1)
    twice = event_message(note).replace(b'"kind":1', b'"kind":7,"kind":1')
    async with unharmed(serving), peer(serving.port) as one:
        await one.say(wire.text(twice))
        assert await one.until("OK", note.id) == ["OK", note.id, True, ""]
        await one.say(wire.text(b'["REQ","x",{"ids":[1],"kinds":[1],"ids":[]}]'))
        assert (await one.until("CLOSED", "x"))[2].startswith("invalid: ids")
        await one.say(
            wire.text(
                b'["REQ","x",{"ids":[1],"kinds":[7],"kinds":[1],"ids":["%b"]}]' % note.id.encode()
            )
        )
        # what is stored and sent holds every key once
        assert (await one.until("EVENT", "x"))[2] == json.loads(event_message(note))[1]
        assert (await one.until("EOSE", "x"))[1] == "x"


BAD_TAGS: Final[list[Any]] = [[], [1], ["e", None], "e", {}, [["e"]]]
EVENT_FIELDS: Final = ("id", "pubkey", "created_at", "kind", "tags", "content", "sig")


async def test_any_value_in_any_field_of_an_event_is_refused(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    (note,) = notes(1)
    good = json.loads(event_message(note))[1]
    bad: list[dict[str, object]] = []
    for field in EVENT_FIELDS:
        bad += [good | {field: value} for value in [*VALUES, "x" * 64, "x" * 128, "é" * 64]]
        bad.append({name: value for name, value in good.items() if name != field})
        bad.append({(name if name != field else name.upper()): good[name] for name in good})
    bad += [good | {"tags": [tag]} for tag in BAD_TAGS]
    # what is another event, and not a true one
    bad += [good | {"tags": [["e"]]}, good | {"kind": 65535}, good | {"created_at": 0}]
    bad = [event for event in bad if event != good]

    async with unharmed(serving), peer(serving.port) as one:
        for verb in ("EVENT", "AUTH"):
            texts = [json.dumps([verb, event]).encode() for event in bad]
            for event, text in zip(bad, texts, strict=True):
                await one.say(wire.text(text))
                answer = await one.message()
                while answer[0] not in ("OK", "NOTICE"):
                    answer = await one.message()
                if answer[0] == "OK":
                    assert answer[1:3] == [event.get("id"), False], (event, answer)
                    assert answer[3].startswith("invalid: ")
        await one.publish(note)
        assert await one.until("OK", note.id) == ["OK", note.id, True, ""]


async def test_auth_proves_nothing_unless_everything_about_it_is_right(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery, limits=Limits(auth_required=False))
    author, other = Author("auth"), Author("auth, somebody else")
    now = int(time.time())

    def proof(challenge: str, relay: str = "ws://relay.example", **changed: Any) -> dict[str, Any]:
        tags = [("relay", relay), ("challenge", challenge)]
        arguments: dict[str, Any] = {"kind": 22242, "tags": tags, "created_at": now} | changed
        event: dict[str, Any] = json.loads(event_message(author.sign(**arguments)))[1]
        return event

    async with unharmed(serving), peer(serving.port) as one, peer(serving.port) as another:
        challenge = (await one.until("AUTH"))[1]
        elsewhere = (await another.until("AUTH"))[1]
        assert challenge != elsewhere
        right = proof(challenge)
        wrong = [
            proof(elsewhere),
            proof(""),
            proof(challenge.upper()),
            proof(challenge, "ws://relay.example.evil.example"),
            proof(challenge, "ws://evil.example/relay.example"),
            proof(challenge, "ws://relay.example@evil.example"),
            proof(challenge, "ws://[relay.example"),
            proof(challenge, "ws://" + "a" * 400_000),
            proof(challenge, ""),
            proof(challenge, kind=1),
            proof(challenge, tags=[("challenge", challenge)]),
            proof(challenge, tags=[("relay", "ws://relay.example")]),
            proof(challenge, created_at=now - 3600),
            proof(challenge, created_at=now + 3600),
            right | {"sig": "0" * 128},
            right | {"pubkey": other.pubkey},
            right | {"content": "mutated"},
            right | {"id": "0" * 64},
        ]
        for event in wrong:
            await one.send(["AUTH", event])
            answer = await one.until("OK", event["id"])
            assert answer[2] is False, str(event)[:300]
            assert answer[3].startswith("invalid: ")
        assert authenticated(serving) == set()
        # it is for AUTH only, and on this connection only
        await one.send(["EVENT", right])
        assert (await one.until("OK", right["id"]))[2] is False
        await another.send(["AUTH", right])
        assert (await another.until("OK", right["id"]))[2] is False
        await one.send(["AUTH", right])
        assert await one.until("OK", right["id"]) == ["OK", right["id"], True, ""]
        assert authenticated(serving) == {author.pubkey}


def authenticated(serving: Serving) -> set[str]:
    """Return every pubkey that has authenticated on any connection."""
    return {key for one in serving.server._connections for key in one.authenticated}


IDS: Final = [
    "x",
    "x" * 64,
    " ",
    '"',
    "\\",
    '\\"',
    '","EVENT',
    "]",
    "\0",
    "\n",
    "\r\n",
    "\t\x1b[31m\x7f\x80\x9f",
    "\u2028\u2029",
    "\ufeff\ufffe\uffff",
    "\u202egnp.exe",
    "👩‍👩‍👧‍👦",
    "😀" * 64,
    "é" * 64,
    "\U0010ffff" * 64,
    "%s %d {0} ${x}",
    "</script>",
    "'; DROP TABLE event; --",
    "__proto__",
    "null",
]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
async def test_a_subscription_id_of_any_characters_comes_back_as_it_was(
    nursery: trio.Nursery, compressed: bool
) -> None:
    serving = await serve(nursery)
    stored, live = notes(2, author=Author("ids"))
    headers = [deflating()] if compressed else []
    async with unharmed(serving), peer(serving.port, *headers) as one:
        await one.publish(stored)
        await one.until("OK", stored.id)
        for name in IDS:
            await one.send(["REQ", name, {"kinds": [1], "authors": [stored.pubkey]}])
            # every message that comes is parsed as JSON, and by a parser that is not ours
            assert (await one.until("EVENT"))[1] == name
            assert (await one.until("EOSE"))[1] == name
        await one.publish(live)
        heard = [await one.message() for _ in range(len(IDS) + 1)]
        assert {message[1] for message in heard if message[0] == "EVENT"} == set(IDS)
        for name in IDS:
            await one.send(["COUNT", name, {"ids": [stored.id]}])
            assert await one.until("COUNT") == ["COUNT", name, {"count": 1}]
            await one.send(["REQ", name, {"kinds": []}])
            assert (await one.until("CLOSED"))[1] == name
            await one.send(["NEG-OPEN", name, {}, ""])
            assert (await one.until("NEG-ERR"))[1] == name
            await one.send(["CLOSE", name])
        await one.alive()
        assert serving.server.subscriptions == 1, "the witness's only"


async def test_a_subscription_id_that_is_none_opens_nothing(nursery: trio.Nursery) -> None:
    serving = await serve(nursery)
    texts = {
        b'["REQ","",{}]': ["CLOSED", ""],
        b'["REQ","%b",{}]' % (b"x" * 65): ["CLOSED", "x" * 65],
        b'["REQ","%b",{}]' % (b"x" * 1024): ["CLOSED", "x" * 1024],
        b'["REQ","%b",{}]' % (b"x" * 1025): ["NOTICE"],
        b'["REQ","%b",{}]' % (b"x" * 400_000): ["NOTICE"],
        b'["REQ","\\ud83d",{}]': ["NOTICE"],
        b'["REQ","\\ud83d\\ud83d",{}]': ["NOTICE"],
        b'["REQ","\n",{}]': ["NOTICE"],
    }
    async with unharmed(serving), peer(serving.port) as one:
        found = await answers(one, list(texts))
        for (before,), expected in zip(found, texts.values(), strict=True):
            assert before[: len(expected)] == expected
        assert serving.server.subscriptions == 1, "the witness's only"


async def test_two_ids_are_one_only_if_they_are_equal_character_by_character(
    nursery: trio.Nursery,
) -> None:
    """What looks alike, or is alike once it is normalised or escaped, is still another's."""
    serving = await serve(nursery)
    alike = ["é", "e\u0301", "É", "\\u00e9", "é ", "é\0"]
    async with unharmed(serving), peer(serving.port) as one:
        for name in alike:
            await one.send(["REQ", name, {"kinds": [1], "limit": 0}])
            await one.until("EOSE", name)
        assert serving.server.subscriptions == len(alike) + 1
        # written with an escape it is the same one
        await one.say(wire.text(b'["CLOSE","\\u00e9"]'))
        await serving.until(subscriptions=len(alike))
        (note,) = notes(1)
        await one.publish(note)
        heard = {(await one.until("EVENT"))[1] for _ in alike[1:]}
        assert heard == set(alike[1:])
