"""What Hypothesis draws for the protocol: events, filters, messages, and mutations of them.

Values come from small pools, so that filters and events meet often enough to mean something.
"""

import json
from typing import Any, Final

from hypothesis import strategies as st

from relay.protocol.event import Event
from relay.protocol.filters import Filter

HEX: Final = [f"{number:064x}" for number in range(6)]
LETTERS: Final = ["e", "p", "t", "T"]
VALUES: Final = ["", "a", "b", 'quote"', "é", *HEX[:3]]
KINDS: Final = [0, 1, 3, 5, 7, 10002, 20001, 30023]
TIMES: Final = [0, 99, 100, 101, 200]

SEARCHES: Final = ["hello", "quote*", '"text"', "語", "a quoted", "nothing"]

hexes = st.sampled_from(HEX)
tag_values = st.sampled_from(VALUES)
tags = st.one_of(
    st.tuples(st.sampled_from([*LETTERS, "expiration", "d", "alt", "-", ""]), tag_values),
    st.tuples(st.sampled_from([*LETTERS, "-"])),
    st.tuples(st.sampled_from(LETTERS), tag_values, tag_values),
)
contents = st.sampled_from(["", "hello", 'a "quoted" \\ text', "\x00\x1f\x7f", "日本語 👩‍👩‍👧‍👦"])

events = st.builds(
    Event,
    id=hexes,
    pubkey=hexes,
    created_at=st.sampled_from(TIMES),
    kind=st.sampled_from(KINDS),
    tags=st.lists(tags, max_size=4).map(tuple),
    content=contents,
    sig=st.just("0" * 128),
)
"""Events of the right shape; ids and signatures are made up."""


def _sets(values: st.SearchStrategy[Any]) -> st.SearchStrategy[frozenset[Any] | None]:
    return st.one_of(st.none(), st.frozensets(values, min_size=1, max_size=3))


filters = st.builds(
    Filter,
    ids=_sets(hexes),
    authors=_sets(hexes),
    kinds=_sets(st.sampled_from(KINDS)),
    tags=st.lists(
        st.sampled_from(LETTERS).flatmap(
            lambda letter: st.tuples(
                st.just(letter),
                # NIP-01: #e and #p hold ids and pubkeys, nothing else
                st.frozensets(hexes if letter in "ep" else tag_values, min_size=1, max_size=3),
            )
        ),
        max_size=2,
        unique_by=lambda condition: condition[0],
    ).map(lambda conditions: tuple(sorted(conditions, key=lambda condition: condition[0]))),
    since=st.one_of(st.none(), st.sampled_from(TIMES)),
    until=st.one_of(st.none(), st.sampled_from(TIMES)),
    limit=st.one_of(st.none(), st.integers(0, 5)),
    search=st.one_of(st.none(), st.none(), st.sampled_from(SEARCHES)),
)


def filter_json(filter_: Filter) -> dict[str, Any]:
    """Return the JSON object that a client would send for `filter_`."""
    fields: dict[str, Any] = {}
    for name in ("ids", "authors", "kinds"):
        values = getattr(filter_, name)
        if values is not None:
            fields[name] = sorted(values)
    for letter, values in filter_.tags:
        fields["#" + letter] = sorted(values)
    for name in ("since", "until", "limit", "search"):
        if getattr(filter_, name) is not None:
            fields[name] = getattr(filter_, name)
    return fields


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20),
        hexes,
        st.sampled_from(["EVENT", "REQ", "CLOSE", "COUNT", "AUTH", "NEG-OPEN", "#e", "ids"]),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=5),
        st.dictionaries(
            st.one_of(
                st.text(max_size=8),
                st.sampled_from(["ids", "authors", "kinds", "#e", "#t", "since", "until", "limit"]),
                st.sampled_from(["id", "pubkey", "created_at", "kind", "tags", "content", "sig"]),
            ),
            children,
            max_size=7,
        ),
    ),
    max_leaves=20,
)


def _dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", errors="surrogatepass")


def _event_json(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


valid_messages = st.one_of(
    events.map(lambda event: _dumps(["EVENT", _event_json(event)])),
    events.map(lambda event: _dumps(["AUTH", _event_json(event)])),
    st.builds(
        lambda verb, name, many, wrapped: _dumps(
            [verb, name, [filter_json(one) for one in many]]
            if wrapped
            else [verb, name, *[filter_json(one) for one in many]]
        ),
        st.sampled_from(["REQ", "COUNT"]),
        st.text(
            st.characters(exclude_categories=["Cs"]),
            min_size=1,
            max_size=64,
        ),
        st.lists(filters, min_size=1, max_size=3),
        st.booleans(),
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64).map(
        lambda name: _dumps(["CLOSE", name])
    ),
)
"""Messages of a well-behaved client."""


@st.composite
def mutated_messages(draw: st.DrawFn) -> bytes:
    """Draw a valid message with some bytes replaced, removed, doubled, or cut off."""
    message = bytearray(draw(valid_messages))
    for _ in range(draw(st.integers(1, 4))):
        if not message:
            break
        start = draw(st.integers(0, len(message) - 1))
        end = draw(st.integers(start, min(len(message), start + 12)))
        piece = draw(
            st.one_of(
                st.just(b""),
                st.binary(max_size=4),
                st.just(bytes(message[start:end]) * 2),
                st.sampled_from([b"[", b"]", b"{", b"}", b'"', b",", b"null", b"-1", b"1e999"]),
                st.sampled_from([b"\\ud800", b"\xff", b"NaN", b"99999999999999999999999", b"\x00"]),
            )
        )
        message[start:end] = piece
    return bytes(message)


any_messages = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", errors="surrogatepass")),
    json_values.map(_dumps),
    st.lists(json_values, max_size=5).map(_dumps),
    st.builds(
        lambda verb, rest: _dumps([verb, *rest]),
        st.sampled_from(["EVENT", "REQ", "CLOSE", "COUNT", "AUTH", "NEG-OPEN", "NEG-MSG"]),
        st.lists(json_values, max_size=4),
    ),
    valid_messages,
    mutated_messages(),
)
"""Anything that a peer might send, from noise to perfectly good messages."""
