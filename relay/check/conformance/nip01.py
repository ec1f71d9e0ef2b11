"""NIP-01: events, and what clients and relays say to each other.

Where the text defines a form ("lowercase hex"), a relay may still be lenient in what it takes; but
what it serves must have that form.
"""

import json
from collections.abc import Mapping
from typing import Final

import trio

from relay.check.conformance.client import Client, Message
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, WireEvent, event_id, now
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import Inconclusive, broken, demand

NIP_01: Final = Chapter(1, "Basic protocol flow", is_always_tried=True)

_FIELDS: Final = ("id", "pubkey", "created_at", "kind", "tags", "content", "sig")
_PREFIXES: Final = (
    *("duplicate", "pow", "blocked", "rate-limited", "invalid", "restricted", "mute", "error"),
    # of other NIPs, and of NIP-01's own examples
    *("auth-required", "info", "unsupported", "closed"),
)
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


# Events and their ids


@NIP_01.must("EVENT messages carry the event as it is defined: its seven fields, unchanged")
async def events_come_back_unchanged(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    other = trial.signer().pubkey
    tags = [["t", word], ["p", other, "wss://relay.example.com"], ["alt", "a", "b"], ["x", ""]]
    await _round_trip(client, author.sign(1, f"a note {word}", tags))


@NIP_01.must("the following characters in the content field must be escaped as shown")
async def the_seven_escapes(trial: Trial) -> None:
    client = await trial.client()
    content = 'line\nquote"backslash\\return\rtab\tbackspace\bform\fend'
    await _round_trip(client, trial.signer().sign(1, content, [["alt", content]]))


@NIP_01.must("all other characters must be included verbatim")
async def other_characters_are_verbatim(trial: Trial) -> None:
    client = await trial.client()
    content = "/ é \u2028\u2029 \x80 \ufeff <&> 日本 👩‍👩‍👧 \U0010ffff \u202e"
    await _round_trip(client, trial.signer().sign(1, content, [["alt", content]]))


@NIP_01.must("all other characters must be included verbatim: delete (0x7F), too")
async def the_delete_character_is_verbatim(trial: Trial) -> None:
    client = await trial.client()
    await _round_trip(client, trial.signer().sign(1, "before\x7fafter"))


@NIP_01.practice("other control characters are hashed as \\u00xx, as JSON.stringify writes them")
async def control_characters_as_clients_write_them(trial: Trial) -> None:
    client = await trial.client()
    content = "".join(map(chr, range(1, 32)))
    await _round_trip(client, trial.signer().sign(1, content))


@NIP_01.practice("the null character is a character like others")
async def the_null_character(trial: Trial) -> None:
    client = await trial.client()
    await _round_trip(client, trial.signer().sign(1, "before\x00after"))


@NIP_01.must("UTF-8 should be used for encoding: texts that only look alike stay different")
async def text_is_not_normalized(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    for content in ("e\u0301 a\u030a", "é å", "  blanks  ", "\u00a0"):
        await _round_trip(client, author.sign(1, content))


@NIP_01.must("the id is of the serialized event, however the message itself is written as JSON")
async def any_json_of_the_same_event(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "ASCII / é 👍 \n", [["alt", "é"]])
    # other escapes, other order of the keys, white space
    turned = dict(sorted(event.items(), reverse=True))
    text = json.dumps(["EVENT", turned], ensure_ascii=True, indent=2).replace("/", "\\/")
    await client.send_text(text)
    answer = await client.answer_to(event)
    if not answer.accepted:
        client.refused(answer, "an event in unusual JSON")
    await _same(client, event)


@NIP_01.must("each tag is an array of one or more strings")
async def a_tag_of_one_string(trial: Trial) -> None:
    client = await trial.client()
    await _round_trip(client, trial.signer().sign(1, "", [["t"], ["single"], ["alt", ""]]))


@NIP_01.must("kind: <integer between 0 and 65535>")
async def kinds_up_to_65535(trial: Trial) -> None:
    client = await trial.client()
    event = trial.signer().sign(65535)
    await client.accept(event)


@NIP_01.must("the id is the sha256 of the serialized event data")
async def a_wrong_id_is_refused(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "the id of another event")
    other = author.sign(1, "another event")
    await client.refuse({**event, "id": other["id"], "sig": other["sig"]}, "a wrong id")
    await _not_served(client, author)


@NIP_01.must("sig: the signature of the sha256 hash of the serialized event data")
async def a_wrong_signature_is_refused(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "badly signed")
    last = "0" if event["sig"][-1] != "0" else "1"
    await client.refuse({**event, "sig": event["sig"][:-1] + last}, "a wrong signature")
    await _not_served(client, author)


@NIP_01.must("pubkey: <public key of the event creator>, whose signature it is")
async def anothers_signature_is_refused(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "signed by somebody else")
    forged = {**event, "sig": trial.signer().signature(event["id"])}
    await client.refuse(forged, "a signature by another key")
    await _not_served(client, author)


@NIP_01.must("sig: the signature; a pubkey that is no point of the curve has signed nothing")
async def a_pubkey_that_is_none_is_refused(trial: Trial) -> None:
    client = await trial.client()
    event = trial.signer().sign(1, "nobody")
    event["pubkey"] = "f" * 64
    event["id"] = event_id(event)
    await client.refuse(event, "an event of a pubkey that cannot be")


@NIP_01.must("id, pubkey and sig are lowercase hex: no event is served in another form")
async def uppercase_hex_is_not_served(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    upper = {"pubkey": author.pubkey.upper(), "created_at": now(), "kind": 1, "tags": []}
    event = author.seal({**upper, "content": "an uppercase pubkey"})
    plain = author.sign(1, "an uppercase id")
    shouted = author.sign(1, "an uppercase signature")
    for one in (
        event,
        {**plain, "id": plain["id"].upper()},
        {**shouted, "sig": shouted["sig"].upper()},
    ):
        await client.offer_malformed(one)
    for filter_ in ({"authors": [author.pubkey]}, {"ids": [plain["id"], event["id"]]}):
        for served in (await client.stored(filter_)).events:
            for field in ("id", "pubkey", "sig"):
                demand(
                    served[field] == served[field].lower(),
                    "lowercase hex in what is served",
                    f"{field} is {served[field]}",
                )


async def _malformed_is_not_served(trial: Trial, **fields: object) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "not quite an event")
    for name, value in fields.items():
        event[name] = value
    event = author.seal({name: event[name] for name in event if name not in ("id", "sig")})
    answer = await client.offer_malformed(event)
    demand(
        answer is None or not answer.accepted,
        "that this is not accepted",
        f"{shown(answer.message) if answer else ''} came",
    )
    if not client.has_ended:
        await _not_served(client, author)


@NIP_01.must("kind: <integer between 0 and 65535>")
async def kind_65536_is_refused(trial: Trial) -> None:
    await _malformed_is_not_served(trial, kind=65536)


@NIP_01.must("kind: <integer between 0 and 65535>")
async def a_negative_kind_is_refused(trial: Trial) -> None:
    await _malformed_is_not_served(trial, kind=-1)


@NIP_01.must("kind: <integer between 0 and 65535>")
async def a_kind_that_is_text_is_refused(trial: Trial) -> None:
    await _malformed_is_not_served(trial, kind="1")


@NIP_01.must("created_at: <unix timestamp in seconds>, as a number")
async def a_time_that_is_text_is_refused(trial: Trial) -> None:
    await _malformed_is_not_served(trial, created_at=str(now()))


@NIP_01.must("content: <arbitrary string>")
async def a_content_that_is_no_text_is_refused(trial: Trial) -> None:
    await _malformed_is_not_served(trial, content={"a": 1})


@NIP_01.must("tags: an array of arrays of non-null strings")
async def a_tag_with_a_number_is_refused(trial: Trial) -> None:
    await _malformed_is_not_served(trial, tags=[["t", 1]])


@NIP_01.must("tags: an array of arrays of non-null strings")
async def a_tag_with_null_is_refused(trial: Trial) -> None:
    await _malformed_is_not_served(trial, tags=[["t", None]])


@NIP_01.must("each tag is an array of one or more strings")
async def a_tag_that_is_no_array_is_refused(trial: Trial) -> None:
    await _malformed_is_not_served(trial, tags=["t"])


@NIP_01.should("each tag is an array of one or more strings")
async def an_empty_tag_is_refused(trial: Trial) -> None:
    await _malformed_is_not_served(trial, tags=[[]])


@NIP_01.must("an event has the fields id, pubkey, created_at, kind, tags, content, sig")
async def an_event_without_a_field_is_refused(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    for field in ("sig", "tags"):
        event = author.sign(1, f"without {field}")
        del event[field]
        answer = await client.offer_malformed(event)
        demand(answer is None or not answer.accepted, "a refusal", "it was accepted")
        if client.has_ended:
            return
    await _not_served(client, author)


# OK


@NIP_01.must("OK messages MUST be sent in response to EVENT messages; true when accepted")
async def an_event_is_answered_by_ok(trial: Trial) -> None:
    client = await trial.client()
    await client.accept(trial.signer().sign(1, "to be answered"))


@NIP_01.must("the 4th parameter MUST always be present")
async def ok_has_four_elements(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "an answer of four elements")
    bad = {**author.sign(1, "refused"), "sig": "0" * 128}
    for one in (event, event, bad):
        answer = await client.offer(one)
        message = answer.message
        demand(
            len(message) == 4 and isinstance(message[3], str),
            '["OK", <id>, <true|false>, <message>]',
            f"{shown(message)} came",
        )


@NIP_01.must("if false, it MUST be a machine-readable single-word prefix, a colon and a message")
async def a_refusal_has_a_prefix(trial: Trial) -> None:
    client = await trial.client()
    answer = await client.refuse({**trial.signer().sign(), "sig": "0" * 128}, "no signature")
    demand(answer.prefix, 'a reason such as "invalid: …"', f"{answer.reason!r} came")


@NIP_01.should("the standardized prefixes are duplicate, pow, blocked, …, and error for the rest")
async def a_refusals_prefix_is_a_standard_one(trial: Trial) -> None:
    client = await trial.client()
    answer = await client.refuse({**trial.signer().sign(), "sig": "0" * 128}, "no signature")
    demand(answer.prefix in _PREFIXES, "a standardized prefix", f"{answer.reason!r} came")


@NIP_01.should('["OK", "b1a649ebe8...", true, "duplicate: already have this event"]')
async def a_duplicate_is_true(trial: Trial) -> None:
    client, event = await trial.client(), trial.signer().sign(1, "twice")
    await client.accept(event)
    answer = await client.offer(event)
    demand(answer.accepted, "true for a duplicate", f"{shown(answer.message)} came")


@NIP_01.practice('["OK", "b1a649ebe8...", true, "duplicate: already have this event"]')
async def a_duplicate_says_so(trial: Trial) -> None:
    client, event = await trial.client(), trial.signer().sign(1, "twice")
    await client.accept(event)
    answer = await client.offer(event)
    demand(answer.prefix == "duplicate", "duplicate: …", f"{answer.reason!r} came")


@NIP_01.must("OK messages MUST be sent in response to EVENT messages: to each of them")
async def each_of_many_events_is_answered(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    events = [author.sign(1, f"{word} {number}") for number in range(20)]
    for event in events:
        await client.send("EVENT", event)
    for event in reversed(events):
        answer = await client.answer_to(event)
        if not answer.accepted:
            client.refused(answer, "one of 20 events")
    found = await client.ids({"authors": [author.pubkey]})
    demand(len(set(found)) == len(events), "all 20 stored", f"{len(set(found))} came")


# Kinds


@NIP_01.should("regular events are all expected to be stored by relays")
async def regular_kinds_are_kept(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    start = now()
    for kind in (1, 2, 7, 44, 1000, 9999):
        first = author.sign(kind, "first", created_at=start - 10)
        second = author.sign(kind, "second", created_at=start)
        await client.accept(first, second)
        found = await client.ids({"authors": [author.pubkey], "kinds": [kind]})
        demand(
            sorted(found) == sorted([first["id"], second["id"]]),
            f"both events of kind {kind}",
            f"{len(found)} came",
        )


async def _versions(trial: Trial, kind: int, *orders: int, tags: list[list[str]]) -> None:
    """Publish versions with these times; the last in time must be what is kept."""
    client, author = await trial.client(), trial.signer()
    start = now() - 100
    versions = {
        order: author.sign(kind, f"version {order}", tags, start + order) for order in orders
    }
    for version in versions.values():
        answer = await client.offer(version)
        if not answer.accepted and version is versions[max(orders)]:
            client.refused(answer, f"the latest version of kind {kind}")
    found = (await client.stored({"authors": [author.pubkey], "kinds": [kind]})).events
    latest = max(found, key=lambda event: int(event["created_at"]), default={})
    demand(
        latest.get("id") == versions[max(orders)]["id"],
        f"the latest version of kind {kind}",
        f"{latest.get('content', 'nothing')!r} is the latest that came",
    )


@NIP_01.must("replaceable: only the latest event MUST be stored by relays")
async def the_latest_replaceable_is_kept(trial: Trial) -> None:
    for kind in (0, 3, 10000, 10002, 19999):
        await _versions(trial, kind, 1, 2, 3, tags=[])


@NIP_01.must("replaceable: only the latest event MUST be stored by relays")
async def an_older_replaceable_does_not_win(trial: Trial) -> None:
    for kind in (0, 3, 10002):
        await _versions(trial, kind, 3, 1, 2, tags=[])


@NIP_01.must("addressable: for each pubkey, kind and d only the latest event MUST be stored")
async def the_latest_addressable_is_kept(trial: Trial) -> None:
    for kind in (30000, 30023, 39999):
        await _versions(trial, kind, 1, 2, 3, tags=[["d", trial.word()]])


@NIP_01.must("addressable: for each pubkey, kind and d only the latest event MUST be stored")
async def an_older_addressable_does_not_win(trial: Trial) -> None:
    await _versions(trial, 30023, 3, 1, 2, tags=[["d", trial.word()]])


@NIP_01.should("even if the relay has more than one version stored, it SHOULD return the latest")
async def only_the_latest_version_is_returned(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    start = now() - 10
    for kind in (0, 3, 10002, 30023):
        for order in range(3):
            await client.offer(author.sign(kind, str(order), [["d", word]], start + order))
        found = (await client.stored({"authors": [author.pubkey], "kinds": [kind]})).events
        contents = [event["content"] for event in found]
        demand(contents == ["2"], f"one version of kind {kind}, the latest", f"{contents} came")


@NIP_01.should("with the same timestamp, the event with the lowest id should be retained")
async def the_lowest_id_wins_a_tie(trial: Trial) -> None:
    client = await trial.client()
    for kind in (0, 10002, 30023):
        for lowest_comes_first in (True, False):
            author = trial.signer()
            time = now()
            pair = [author.sign(kind, f"tie {one}", [["d", "tie"]], time) for one in range(2)]
            pair.sort(key=lambda event: str(event["id"]), reverse=not lowest_comes_first)
            for event in pair:
                await client.offer(event)
            found = await client.ids({"authors": [author.pubkey], "kinds": [kind]})
            lowest = min(event["id"] for event in pair)
            demand(
                found == [lowest],
                f"only the event with the lowest id ({lowest[:8]}…), kind {kind}",
                f"{[one[:8] + '…' for one in found]} came"
                f", the lowest was published {'first' if lowest_comes_first else 'last'}",
            )


@NIP_01.must("for each combination of pubkey and kind")
async def replaceable_by_author_and_kind(trial: Trial) -> None:
    client, first, second = await trial.client(), trial.signer(), trial.signer()
    events = [one.sign(kind, "kept") for one in (first, second) for kind in (10002, 10003)]
    await client.accept(*events)
    found = await client.ids({"authors": [first.pubkey, second.pubkey]})
    demand(len(set(found)) == 4, "four events of two authors and two kinds", f"{len(found)} came")


@NIP_01.must("for each combination of kind, pubkey and the d tag value")
async def addressable_by_author_kind_and_d(trial: Trial) -> None:
    client, first, second = await trial.client(), trial.signer(), trial.signer()
    events = [
        one.sign(kind, "kept", [["d", d]])
        for one in (first, second)
        for kind in (30000, 30023)
        for d in ("a", "A", "a ")
    ]
    await client.accept(*events)
    found = await client.ids({"authors": [first.pubkey, second.pubkey]})
    demand(len(set(found)) == 12, "12 events with addresses of their own", f"{len(found)} came")


@NIP_01.practice("an addressable event without a d tag has the empty one")
async def a_missing_d_is_empty(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    start = now() - 10
    await client.accept(
        author.sign(30023, "empty", [["d", ""]], start), author.sign(30023, "none", [], start + 1)
    )
    found = (await client.stored({"authors": [author.pubkey]})).events
    contents = [event["content"] for event in found]
    demand(contents == ["none"], "one event: the latest of the two", f"{contents} came")


@NIP_01.practice("a d tag without a value is an empty one")
async def a_d_tag_without_value_is_empty(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    start = now() - 10
    await client.accept(
        author.sign(30023, "empty", [["d", ""]], start),
        author.sign(30023, "without", [["d"]], start + 1),
    )
    found = (await client.stored({"authors": [author.pubkey]})).events
    contents = [event["content"] for event in found]
    demand(contents == ["without"], "one event: the latest of the two", f"{contents} came")


@NIP_01.must("only the latest event MUST be stored, also when many come at one time")
async def the_latest_of_concurrent_versions_is_kept(trial: Trial) -> None:
    clients = [await trial.client() for _ in range(3)]
    author, start = trial.signer(), now() - 100
    versions = [author.sign(10002, f"version {order}", [], start + order) for order in range(15)]
    mixed = versions[1::2] + versions[0::2][::-1]
    for number, version in enumerate(mixed):
        await clients[number % 3].send("EVENT", version)
    for number, version in enumerate(mixed):
        await clients[number % 3].answer_to(version)
    found = (await clients[0].stored({"authors": [author.pubkey], "kinds": [10002]})).events
    latest = max(found, key=lambda event: int(event["created_at"]), default={})
    demand(latest.get("content") == "version 14", "the latest version", f"{shown(found)} came")


@NIP_01.should("ephemeral events are not expected to be stored by relays")
async def ephemeral_events_are_not_stored(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    for kind in (20000, 20001, 29999):
        event = author.sign(kind, "for the moment")
        await client.offer(event)
        for filter_ in ({"ids": [event["id"]]}, {"authors": [author.pubkey]}):
            found = await client.ids(filter_)
            demand(not found, f"nothing stored of kind {kind}", f"{len(found)} came")


@NIP_01.should("any new events it receives SHOULD be sent: ephemeral ones, too")
async def ephemeral_events_are_delivered(trial: Trial) -> None:
    reader, writer, author = await trial.client(), await trial.client(), trial.signer()
    listening = await reader.subscribe({"authors": [author.pubkey]})
    for kind in (20001, 29999):
        event = author.sign(kind, "for the moment")
        await writer.offer(event)
        await listening.event(event)


# Filters


_Case = tuple[Mapping[str, object] | list[object], set[int]]
"""A filter or several, and the numbers of the events that pass."""


class _Field:
    """A few events of one test, and which of them a filter finds: stored, and live."""

    def __init__(self, trial: Trial, *events: WireEvent) -> None:
        self._trial = trial
        self._events = events

    async def publish(self) -> Client:
        client = await self._trial.client()
        await client.accept(*self._events)
        return client

    async def found_by(self, client: Client, *filters: object) -> set[int]:
        """Return the numbers of the events that are found."""
        ids = await client.ids(*filters)
        places = {event["id"]: number for number, event in enumerate(self._events)}
        return {places[one] for one in ids if one in places}


async def _finds(field: _Field, *cases: _Case) -> None:
    client = await field.publish()
    for filters, expected in cases:
        several = filters if isinstance(filters, list) else [filters]
        found = await field.found_by(client, *several)
        demand(
            found == expected,
            f"the events {sorted(expected)} for {shown(several)}",
            f"{sorted(found)} came",
        )


@NIP_01.must("the attribute from the event must be contained in the filter list")
async def filters_by_ids(trial: Trial) -> None:
    author = trial.signer()
    events = [author.sign(1, str(one)) for one in range(3)]
    ids = [event["id"] for event in events]
    await _finds(
        _Field(trial, *events),
        ({"ids": [ids[0]]}, {0}),
        ({"ids": [ids[2], ids[1]]}, {1, 2}),
        ({"ids": ["0" * 64, ids[1]]}, {1}),
    )


@NIP_01.must("authors: the pubkey of an event must be one of these")
async def filters_by_authors(trial: Trial) -> None:
    authors = [trial.signer() for _ in range(3)]
    keys = [author.pubkey for author in authors]
    await _finds(
        _Field(trial, *[author.sign(1) for author in authors]),
        ({"authors": [keys[0]]}, {0}),
        ({"authors": [keys[2], keys[1]]}, {1, 2}),
    )


@NIP_01.must("kinds: <a list of a kind numbers>")
async def filters_by_kinds(trial: Trial) -> None:
    author = trial.signer()
    mine: dict[str, object] = {"authors": [author.pubkey]}
    await _finds(
        _Field(trial, *[author.sign(kind) for kind in (1, 7, 1111)]),
        ({**mine, "kinds": [7]}, {1}),
        ({**mine, "kinds": [1111, 1]}, {0, 2}),
        ({**mine, "kinds": [6]}, set()),
    )


@NIP_01.must("the event and filter condition values must have at least one item in common")
async def filters_by_tags(trial: Trial) -> None:
    author, words = trial.signer(), [trial.word() for _ in range(3)]
    await _finds(
        _Field(
            trial,
            author.sign(1, "0", [["t", words[0]]]),
            author.sign(1, "1", [["t", words[1]], ["t", words[2]]]),
            author.sign(1, "2", [["r", words[0]]]),
        ),
        ({"#t": [words[0]]}, {0}),
        ({"#t": [words[2]]}, {1}),
        ({"#t": [words[0], words[1]]}, {0, 1}),
        ({"#r": [words[0], words[1]]}, {2}),
        ({"#t": [words[0], "nothing of the kind"]}, {0}),
    )


@NIP_01.must("#e: a list of event ids, #p: a list of pubkeys")
async def filters_by_e_and_p(trial: Trial) -> None:
    author, friend = trial.signer(), trial.signer()
    target = author.sign(1, "the target")
    reply = author.sign(1, "a reply", [["e", target["id"], "wss://x.example", "root"]])
    mention = author.sign(1, "a mention", [["p", friend.pubkey]])
    await _finds(
        _Field(trial, target, reply, mention),
        ({"#e": [target["id"]]}, {1}),
        ({"#p": [friend.pubkey]}, {2}),
    )


@NIP_01.should("all single-letter (a-z, A-Z) key tags are expected to be indexed by relays")
async def every_letter_is_indexed(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    values = {letter: event_id_like(word + letter) for letter in _LETTERS}
    event = author.sign(1, "all letters", [[letter, values[letter]] for letter in _LETTERS])
    await client.accept(event)
    missing = [
        letter
        for letter in _LETTERS
        if await client.ids({f"#{letter}": [values[letter]]}) != [event["id"]]
    ]
    demand(not missing, "the event by each of 52 letters", f"not by {' '.join(missing)}")


@NIP_01.must("#<single-letter (a-zA-Z)>: upper and lower case are letters of their own")
async def letters_are_case_sensitive(trial: Trial) -> None:
    author, word = trial.signer(), trial.word()
    await _finds(
        _Field(trial, author.sign(1, "0", [["t", word]]), author.sign(1, "1", [["T", word]])),
        ({"#t": [word]}, {0}),
        ({"#T": [word]}, {1}),
    )


@NIP_01.must("tag values must have at least one item in common: equal, not similar")
async def values_are_exact(trial: Trial) -> None:
    author, word = trial.signer(), trial.word()
    values = [word, word.upper(), word + " ", word + "é", word + "e\u0301", word[:-1]]
    await _finds(
        _Field(trial, *[author.sign(1, str(n), [["t", v]]) for n, v in enumerate(values)]),
        *[({"authors": [author.pubkey], "#t": [value]}, {n}) for n, value in enumerate(values)],
    )


@NIP_01.must("only the first value in any given tag is indexed")
async def only_the_first_value_is_indexed(trial: Trial) -> None:
    author, words = trial.signer(), [trial.word(), trial.word()]
    await _finds(
        _Field(trial, author.sign(1, "", [["t", *words]])),
        ({"#t": [words[0]]}, {0}),
        ({"#t": [words[1]]}, set()),
    )


@NIP_01.must("all conditions of a filter must match: multiple conditions are && conditions")
async def conditions_are_anded(trial: Trial) -> None:
    author, other, word = trial.signer(), trial.signer(), trial.word()
    time = now() - 50
    mine = author.sign(1, "0", [["t", word], ["r", word]], time)
    events = [
        mine,
        author.sign(7, "1", [["t", word], ["r", word]], time),
        other.sign(1, "2", [["t", word], ["r", word]], time),
        author.sign(1, "3", [["t", word]], time),
        author.sign(1, "4", [["t", word], ["r", word]], time - 10),
    ]
    whole: dict[str, object] = {
        "authors": [author.pubkey],
        "kinds": [1],
        "#t": [word],
        "#r": [word],
        "since": time,
        "until": time,
    }
    cases: list[_Case] = [(whole, {0})]
    for field, others in (("kinds", {1}), ("authors", {2}), ("#r", {3}), ("since", {4})):
        rest = {name: value for name, value in whole.items() if name != field}
        cases.append((rest, {0} | others))
    cases.append(({**whole, "ids": [mine["id"]]}, {0}))
    cases.append(({**whole, "ids": [events[1]["id"]]}, set()))
    await _finds(_Field(trial, *events), *cases)


@NIP_01.must("events that match any of the filters are to be returned: || conditions")
async def filters_are_ored(trial: Trial) -> None:
    first, second, word = trial.signer(), trial.signer(), trial.word()
    await _finds(
        _Field(trial, first.sign(1), second.sign(7), first.sign(1111, "", [["t", word]])),
        ([{"authors": [first.pubkey], "kinds": [1]}, {"authors": [second.pubkey]}], {0, 1}),
        ([{"#t": [word]}, {"authors": [second.pubkey]}, {"ids": ["0" * 64]}], {1, 2}),
    )


@NIP_01.practice("an event is sent once, though it matches two filters")
async def an_event_that_matches_twice_comes_once(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    filters = [{"authors": [author.pubkey]}, {"#t": [word]}]
    stored, live = (author.sign(1, one, [["t", word]]) for one in ("stored", "live"))
    await client.accept(stored)
    subscription = await client.subscribe(*filters)
    ids = subscription.stored.ids
    demand(ids == [stored["id"]], "the stored event once", f"it came {len(ids)} times")
    await client.accept(live)
    await subscription.event(live)
    await subscription.nothing(live)


@NIP_01.must("in short, an event matches a filter if since <= created_at <= until holds")
async def since_and_until_are_inclusive(trial: Trial) -> None:
    author, time = trial.signer(), now() - 100
    mine: dict[str, object] = {"authors": [author.pubkey]}
    await _finds(
        _Field(trial, *[author.sign(1, str(n), created_at=time + n) for n in range(5)]),
        ({**mine, "since": time + 2}, {2, 3, 4}),
        ({**mine, "until": time + 2}, {0, 1, 2}),
        ({**mine, "since": time + 1, "until": time + 3}, {1, 2, 3}),
        ({**mine, "since": time + 3, "until": time + 3}, {3}),
        ({**mine, "since": time + 4, "until": time}, set()),
    )


@NIP_01.must("ids MUST contain exact 64-character values: a prefix matches nothing")
async def prefixes_match_nothing(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "not by its beginning")
    await client.accept(event)
    for filter_ in (
        {"ids": [event["id"][:63]]},
        {"ids": [event["id"][:8]]},
        {"authors": [author.pubkey[:63]]},
    ):
        name = client.name()
        await client.send("REQ", name, filter_)
        found = await client.attempt(
            lambda m: m[0] in ("EVENT", "EOSE", "CLOSED", "NOTICE"),
            patience=8 * client.pace.quiet,
        )
        if client.has_ended:
            client = await trial.client()
        demand(
            found is None or found[0] != "EVENT",
            f"no event for {shown(filter_)}",
            f"{shown(found)} came",
        )


@NIP_01.must("a filter is for new events what it is for stored ones")
async def new_events_are_filtered_as_stored_ones(trial: Trial) -> None:
    reader, writer = await trial.client(), await trial.client()
    author, other, friend = trial.signer(), trial.signer(), trial.signer()
    word, time = trial.word(), now() - 20
    subscription = await reader.subscribe(
        {
            "authors": [author.pubkey],
            "kinds": [1],
            "#t": [word],
            "#p": [friend.pubkey],
            "since": time,
            "until": time + 10,
        }
    )
    tags = [["t", word], ["p", friend.pubkey]]
    unwanted = [
        author.sign(1, "too old", tags, time - 1),
        author.sign(1, "too new", tags, time + 11),
        author.sign(7, "another kind", tags, time),
        other.sign(1, "another author", tags, time),
        author.sign(1, "another tag", [["T", word], *tags[1:]], time),
        author.sign(1, "a second value", [["t", "first", word], *tags[1:]], time),
        author.sign(1, "one tag is missing", tags[:1], time),
    ]
    wanted = [author.sign(1, "first", tags, time), author.sign(1, "last", tags, time + 10)]
    await writer.accept(*unwanted, *wanted)
    for event in wanted:
        await subscription.event(event)
    await subscription.nothing()


# Order and limit


@NIP_01.should("newer events should appear first")
async def order_newest_first(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 100
    orders = [3, 0, 4, 1, 2, 6, 5]
    await client.accept(*[author.sign(1, str(one), created_at=time + one) for one in orders])
    for filters in (
        [{"authors": [author.pubkey]}],
        [{"authors": [author.pubkey], "limit": 5}],
    ):
        found = [event["created_at"] for event in (await client.stored(*filters)).events]
        demand(
            len(found) >= 5 and found == sorted(found, reverse=True),
            "the newest first",
            f"{[one - time for one in found]} came",
        )


@NIP_01.should("in the case of ties the event with the lowest id should be first")
async def ties_lowest_id_first(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now()
    events = [author.sign(1, f"tie {one}", created_at=time) for one in range(8)]
    await client.accept(*events)
    found = await client.ids({"authors": [author.pubkey]})
    demand(found == sorted(found), "equal times by id", f"{[one[:8] for one in found]} came")
    limited = await client.ids({"authors": [author.pubkey], "limit": 3})
    demand(
        limited == sorted(event["id"] for event in events)[:3],
        "with limit 3 the three lowest ids",
        f"{[one[:8] for one in limited]} came",
    )


@NIP_01.should("the last n events ordered by created_at; returning more should be avoided")
async def limit_bounds_the_initial_query(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 100
    await client.accept(*[author.sign(1, str(n), created_at=time + n) for n in range(10)])
    for limit in (1, 3, 9):
        filter_ = {"authors": [author.pubkey], "limit": limit}
        found = [event["content"] for event in (await client.stored(filter_)).events]
        # fewer are acceptable, but these must be the last ones
        latest = [str(n) for n in range(9, -1, -1)]
        demand(
            found and found == latest[: min(limit, len(found))] and len(found) <= limit,
            f"the last {limit} events",
            f"{found} came",
        )


@NIP_01.should("a filter's limit is its own: maximum number of events for each filter")
async def each_filter_has_its_own_limit(trial: Trial) -> None:
    client, first, second = await trial.client(), trial.signer(), trial.signer()
    time = now() - 100
    events = [one.sign(1, str(n), created_at=time + n) for n in range(3) for one in (first, second)]
    await client.accept(*events)
    found = await client.ids(
        {"authors": [first.pubkey], "limit": 1}, {"authors": [second.pubkey], "limit": 2}
    )
    expected = {events[4]["id"], events[5]["id"], events[3]["id"]}
    demand(set(found) == expected, "one event of the first, two of the second", f"{found} came")


@NIP_01.must("the limit is only valid for the initial query and MUST be ignored afterwards")
async def limit_is_ignored_for_new_events(trial: Trial) -> None:
    reader, writer, author = await trial.client(), await trial.client(), trial.signer()
    await writer.accept(author.sign(1, "stored"))
    subscription = await reader.subscribe({"authors": [author.pubkey], "limit": 2})
    for number in range(5):
        event = author.sign(1, f"new {number}")
        await writer.accept(event)
        await subscription.event(event)


@NIP_01.must("limit 0: nothing stored; and it MUST be ignored afterwards")
async def limit_zero_is_live_only(trial: Trial) -> None:
    reader, writer, author = await trial.client(), await trial.client(), trial.signer()
    await writer.accept(author.sign(1, "stored"))
    subscription = await reader.subscribe({"authors": [author.pubkey], "limit": 0})
    demand(not subscription.stored.events, "no stored event for limit 0", "one came")
    event = author.sign(1, "new")
    await writer.accept(event)
    await subscription.event(event)


# Subscriptions


@NIP_01.must("EOSE indicates the end of stored events")
async def stored_events_come_before_eose(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    events = [author.sign(1, str(number)) for number in range(5)]
    await client.accept(*events)
    subscription = await client.subscribe({"authors": [author.pubkey]})
    found = sorted(subscription.stored.ids)
    expected = sorted(event["id"] for event in events)
    demand(found == expected, "all five events before EOSE", f"{len(found)} came")
    await subscription.nothing()


@NIP_01.must("EOSE comes also where nothing is stored, and once")
async def eose_without_events(trial: Trial) -> None:
    client = await trial.client()
    subscription = await client.subscribe({"authors": [trial.signer().pubkey]})
    await client.nothing("second EOSE", lambda m: m[:2] == ["EOSE", subscription.name])


@NIP_01.should("any new events it receives SHOULD be sent to that same websocket")
async def new_events_are_delivered(trial: Trial) -> None:
    reader, writer, author = await trial.client(), await trial.client(), trial.signer()
    subscriptions = [
        await reader.subscribe({"authors": [author.pubkey]}),
        await reader.subscribe({"kinds": [1], "authors": [author.pubkey]}),
        await writer.subscribe({"authors": [author.pubkey]}),
    ]
    for number in range(3):
        event = author.sign(1, f"new {number}")
        await writer.accept(event)
        for subscription in subscriptions:
            found = await subscription.event(event)
            _demand_same(event, found)


@NIP_01.must("EVENT messages MUST be sent only with the ID of a subscription of this client")
async def no_events_without_a_subscription(trial: Trial) -> None:
    silent, writer, author = await trial.client(), await trial.client(), trial.signer()
    other = await writer.subscribe({"authors": [author.pubkey]})
    event = author.sign(1, "for subscribers")
    await writer.accept(event)
    await other.event(event)
    await silent.nothing("EVENT", lambda m: m[0] == "EVENT")
    for message in writer.unread:
        demand(
            message[0] != "EVENT" or message[1:2] == [other.name],
            "only EVENTs of the one subscription",
            f"{shown(message)} came",
        )


@NIP_01.must("relays MUST manage subscription ids independently for each connection")
async def subscription_ids_per_connection(trial: Trial) -> None:
    first, second, writer = [await trial.client() for _ in range(3)]
    authors = [trial.signer(), trial.signer()]
    one = await first.subscribe({"authors": [authors[0].pubkey]}, name="same")
    two = await second.subscribe({"authors": [authors[1].pubkey]}, name="same")
    events = [author.sign(1, "to one of them") for author in authors]
    await writer.accept(*events)
    await one.event(events[0])
    await two.event(events[1])
    await one.nothing(events[1])
    await two.close()
    await second.alive()
    event = authors[0].sign(1, "the other was closed")
    await writer.accept(event)
    await one.event(event)


@NIP_01.must("a new REQ with the same id: a new subscription, replacing the old one")
async def a_used_id_replaces(trial: Trial) -> None:
    reader, writer = await trial.client(), await trial.client()
    old, new = trial.signer(), trial.signer()
    await reader.subscribe({"authors": [old.pubkey]}, name="again")
    stored = new.sign(1, "stored")
    await writer.accept(stored)
    subscription = await reader.subscribe({"authors": [new.pubkey]}, name="again")
    demand(stored["id"] in subscription.stored.ids, "the new filter's stored events", "none came")
    events = old.sign(1, "for the old one"), new.sign(1, "for the new one")
    await writer.accept(*events)
    await subscription.event(events[1])
    await subscription.nothing(events[0])


@NIP_01.must("CLOSE is used to stop previous subscriptions")
async def close_ends_a_subscription(trial: Trial) -> None:
    reader, writer, author = await trial.client(), await trial.client(), trial.signer()
    closed = await reader.subscribe({"authors": [author.pubkey]})
    other = await reader.subscribe({"authors": [author.pubkey]})
    await closed.close()
    await reader.alive()
    event = author.sign(1, "for the other one")
    await writer.accept(event)
    await other.event(event)
    await closed.nothing()


@NIP_01.practice("CLOSE of a subscription that is not open does no harm")
async def close_of_an_unknown_id(trial: Trial) -> None:
    client = await trial.client()
    await client.send("CLOSE", "never opened")
    await client.alive()


@NIP_01.must("<subscription_id> is an arbitrary, non-empty string of max length 64 chars")
async def subscription_ids_are_arbitrary(trial: Trial) -> None:
    client = await trial.client()
    for name in ("x", "x" * 64, "a b:c/d,e", 'quote " backslash \\ new\nline', "é 日本 👍", "0"):
        await client.send("REQ", name, {"ids": ["0" * 64]})
        message = await client.attempt(
            lambda m, name=name: m[0] in ("EOSE", "CLOSED", "NOTICE") and name in m,  # type: ignore[misc]
            patience=8 * client.pace.quiet,
        )
        demand(
            message is not None and message[0] == "EOSE",
            f"an EOSE for the subscription id {name!r}",
            f"{shown(message)} came" if message else client.what_came(8 * client.pace.quiet),
        )
        await client.send("CLOSE", name)


@NIP_01.practice("64 characters are not 64 bytes")
async def subscription_ids_are_counted_in_characters(trial: Trial) -> None:
    client = await trial.client()
    await client.subscribe({"ids": ["0" * 64]}, name="é" * 64)


@NIP_01.practice("a subscription id is non-empty and has 64 characters at most")
async def other_subscription_ids_are_refused(trial: Trial) -> None:
    client = await trial.client()
    for name in ("x" * 200, ""):
        await client.send("REQ", name, {"ids": ["0" * 64]})
        message = await client.attempt(
            lambda m: m[0] in ("EOSE", "CLOSED", "NOTICE"), patience=8 * client.pace.quiet
        )
        demand(
            message is not None and message[0] != "EOSE",
            f"a refusal of {name!r}",
            f"{shown(message)} came",
        )


@NIP_01.should("a subscription lives until CLOSE: also after many events")
async def a_subscription_goes_on(trial: Trial) -> None:
    reader, writer, author = await trial.client(), await trial.client(), trial.signer()
    subscription = await reader.subscribe({"authors": [author.pubkey], "kinds": [20001]})
    for number in range(60):
        event = author.sign(20001, str(number))
        await writer.send("EVENT", event)
        await subscription.event(event)


_REFUSABLE: Final[tuple[tuple[str, list[object]], ...]] = (
    ("authors that are no pubkeys", [{"authors": ["nobody"]}]),
    ("ids in upper case", [{"ids": ["A" * 64]}]),
    ("an #e value that is no id", [{"#e": ["nothing"]}]),
    ("an empty list", [{"ids": []}]),
    ("an unknown field", [{"unknown_field": 1}]),
)
_MALFORMED: Final[tuple[tuple[str, list[object]], ...]] = (
    ("kinds that are text", [{"kinds": "1"}]),
    ("kinds with a text", [{"kinds": ["one"]}]),
    ("a filter that is a text", ["filter"]),
    ("a negative limit", [{"limit": -1}]),
    ("a time that is text", [{"since": "yesterday"}]),
)


@NIP_01.must("CLOSED messages MUST be sent in response to a REQ when the relay refuses it")
async def a_refused_request_is_closed(trial: Trial) -> None:
    await _answered(trial, _REFUSABLE)


@NIP_01.practice("CLOSED also for a REQ whose filters are malformed, as far as its id can be read")
async def a_malformed_request_is_closed(trial: Trial) -> None:
    await _answered(trial, _MALFORMED)


async def _answered(trial: Trial, cases: tuple[tuple[str, list[object]], ...]) -> None:
    client = await trial.client()
    for what, filters in cases:
        name = client.name()
        await client.send("REQ", name, *filters)
        outcome = await client.request_outcome(name)
        if outcome is None:
            broken(f"EOSE or CLOSED for a REQ with {what}", client.what_came(8 * client.pace.quiet))
        await client.send("CLOSE", name)


@NIP_01.must("CLOSED uses the same pattern of OK messages: prefix and human-readable message")
async def closed_has_a_prefix(trial: Trial) -> None:
    client = await trial.client()
    seen = 0
    for _, filters in (*_REFUSABLE, *_MALFORMED):
        name = client.name()
        await client.send("REQ", name, *filters)
        outcome = await client.request_outcome(name)
        if client.has_ended:
            break
        if outcome is None or outcome[0] != "CLOSED":
            continue
        seen += 1
        reason = outcome[2] if len(outcome) > 2 else None
        word, colon, _ = reason.partition(":") if isinstance(reason, str) else ("", "", "")
        demand(
            len(outcome) == 3 and colon and word and " " not in word,
            '["CLOSED", <id>, "<prefix>: <message>"]',
            f"{shown(outcome)} came",
        )
    if not seen:
        raise Inconclusive("the relay sent no CLOSED for requests that it could have refused")


@NIP_01.practice("several filters may come wrapped in one array")
async def filters_wrapped_in_an_array(trial: Trial) -> None:
    first, second = trial.signer(), trial.signer()
    await _finds(
        _Field(trial, first.sign(1), second.sign(1)),
        ([[{"authors": [first.pubkey]}, {"authors": [second.pubkey]}]], {0, 1}),
        ([[{"authors": [first.pubkey]}]], {0}),
    )


# The endpoint, and what is no message


@NIP_01.must(
    "relays MUST only accept connections to a single endpoint when path segments do not"
    " influence its behavior"
)
async def other_paths_are_refused(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "on the relay's own path")
    await client.accept(event)
    target = trial.subject.address.target.rstrip("/") + f"/{trial.word()}"
    try:
        other = await trial.client(target)
        found = await other.ids({"ids": [event["id"]]})
    except Inconclusive:
        return  # refused: there is one endpoint
    demand(
        not found,
        f"that {target} is refused, or another relay",
        "it is accepted, and serves what was published on the relay's own path",
    )


_NO_MESSAGES: Final = (
    ("broken JSON", '["REQ","x",{'),
    ("an empty array", "[]"),
    ("an object", "{}"),
    ("a number", "7"),
    ("null", "null"),
    ("an unknown message", '["HELLO","x"]'),
    ("a message whose name is a number", "[1,2,3]"),
    ("an EVENT without an event", '["EVENT"]'),
    ("a REQ without anything", '["REQ"]'),
    ("a CLOSE without anything", '["CLOSE"]'),
    ("an EVENT that is a text", '["EVENT","x"]'),
    ("deep nesting", "[" * 2000 + "]" * 2000),
)


@NIP_01.practice("what is no message is not the end of a connection, or of the relay")
async def what_is_no_message_does_no_harm(trial: Trial) -> None:
    client = await trial.client()
    for what, text in _NO_MESSAGES:
        await client.send_text(text)
        name = client.name()
        await client.send("REQ", name, {"ids": ["0" * 64]})
        if await client.request_outcome(name) is None:
            broken(f"that the connection still works after {what}", client.what_came())
        await client.send("CLOSE", name)


@NIP_01.practice("what is no message is answered by a NOTICE")
async def what_is_no_message_gets_a_notice(trial: Trial) -> None:
    client = await trial.client()
    for what, text in (("broken JSON", '["REQ","x",{'), ("an unknown message", '["HELLO","x"]')):
        await client.send_text(text)
        expected = f"a NOTICE for {what}"
        notice = await client.receive(
            expected, lambda m: m[0] == "NOTICE", patience=8 * client.pace.quiet
        )
        demand(
            len(notice) == 2 and isinstance(notice[1], str),
            '["NOTICE", <message>]',
            f"{shown(notice)} came",
        )


@NIP_01.must("relays' messages must be JSON arrays, of the types that clients know")
async def messages_are_well_formed(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    subscription = await client.subscribe({"authors": [author.pubkey]})
    event = author.sign(1, "a message of each type")
    await client.accept(event)
    await client.alive()
    await subscription.event(event)
    await trio.sleep(client.pace.quiet)
    for message in client.unread:
        demand(_is_known(message), "messages of known types", f"{shown(message)} came")


def _is_known(message: Message) -> bool:
    known = ("EVENT", "OK", "EOSE", "CLOSED", "NOTICE", "AUTH", "COUNT", "NEG-MSG", "NEG-ERR")
    return message[0] in known and len(message) > 1 and isinstance(message[1], str)


# What several rules do


async def _round_trip(client: Client, event: WireEvent) -> None:
    """Publish an event and read it back, by its id and live."""
    listening = await client.subscribe({"authors": [event["pubkey"]], "limit": 0})
    await client.accept(event)
    _demand_same(event, await listening.event(event))
    await _same(client, event)
    await listening.close()


async def _same(client: Client, event: WireEvent) -> None:
    found = (await client.stored({"ids": [event["id"]]})).events
    demand(len(found) == 1, "the event by its id", f"{len(found)} events came")
    _demand_same(event, found[0])


def _demand_same(event: WireEvent, found: WireEvent) -> None:
    for field in _FIELDS:
        demand(
            found.get(field) == event[field] and type(found.get(field)) is type(event[field]),
            f"{field} {shown(event[field])}",
            f"{shown(found.get(field))} came",
        )


async def _not_served(client: Client, author: Signer) -> None:
    found = await client.ids({"authors": [author.pubkey]})
    demand(not found, "that what was refused is not served", f"{len(found)} events came")


def event_id_like(word: str) -> str:
    """Return 64 hexadecimal digits that only this word gives."""
    return event_id({"pubkey": "", "created_at": 0, "kind": 0, "tags": [], "content": word})
