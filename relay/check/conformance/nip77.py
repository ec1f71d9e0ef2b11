"""NIP-77: negentropy, with a client of our own (`negentropy`)."""

from collections.abc import Iterable, Sequence
from typing import Final

from relay.check.conformance.client import Client, Message
from relay.check.conformance.negentropy import (
    FINGERPRINT,
    SKIP,
    Range,
    Reconciler,
    Record,
    fingerprint_of,
    message_of,
    ranges_of,
)
from relay.check.conformance.nip59 import WRAP, wrap
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, WireEvent, now
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import Inconclusive, RuleBroken, broken, demand

NIP_77: Final = Chapter(77, "Negentropy syncing")

_ROUNDS: Final = 20
_NOBODYS_ID: Final = bytes([0xAB]) * 32
_EMPTY: Final = Reconciler([]).first(lists=True)


def _records(events: Iterable[WireEvent]) -> list[Record]:
    return [Record(event["created_at"], bytes.fromhex(event["id"])) for event in events]


async def _answer(client: Client, name: str) -> Message:
    return await client.receive(
        f"a NEG-MSG or NEG-ERR for {name!r}",
        lambda m: m[0] in ("NEG-MSG", "NEG-ERR") and m[1:2] == [name],
    )


async def _opened(client: Client, filter_: object, first: bytes, name: str = "sync") -> bytes:
    """Open and return the relay's first message."""
    await client.send("NEG-OPEN", name, filter_, first.hex())
    return _binary(await _answer(client, name))


def _binary(message: Message) -> bytes:
    if message[0] == "NEG-ERR":
        reason = str(message[2:3])
        if "blocked" in reason or "auth-required" in reason or "restricted" in reason:
            raise Inconclusive(f"the relay refuses to reconcile: {reason}")
        broken("a NEG-MSG", f"{shown(message)} came")
    try:
        return bytes.fromhex(message[2])
    except (IndexError, TypeError, ValueError):
        broken('["NEG-MSG", <subscription id>, <hex>]', f"{shown(message)} came")


async def _reconcile(
    client: Client, filter_: object, ours: Sequence[WireEvent], *, lists: bool = False
) -> tuple[set[str], set[str]]:
    """Reconcile to the end; return the ids that we need, and those that only we have."""
    reconciler = Reconciler(_records(ours))
    answer = await _opened(client, filter_, reconciler.first(lists=lists))
    for _ in range(_ROUNDS):
        following = reconciler.next(answer)
        if following is None:
            await client.send("NEG-CLOSE", "sync")
            return {one.hex() for one in reconciler.need}, {one.hex() for one in reconciler.have}
        await client.send("NEG-MSG", "sync", following.hex())
        answer = _binary(await _answer(client, "sync"))
    raise RuleBroken(f"an end within {_ROUNDS} rounds", "there was none")


async def _learns(
    trial: Trial, theirs: Sequence[WireEvent], ours: Sequence[WireEvent], author: Signer
) -> None:
    client = await trial.client()
    for event in theirs:
        await client.send("EVENT", event)
    for event in theirs:
        answer = await client.answer_to(event)
        if not answer.accepted:
            client.refused(answer, "an event to be reconciled")
    there, here = {event["id"] for event in theirs}, {event["id"] for event in ours}
    for lists in (False, True):
        need, have = await _reconcile(client, {"authors": [author.pubkey]}, ours, lists=lists)
        demand(need == there - here, f"{len(there - here)} ids to need", f"{len(need)} came")
        demand(have == here - there, f"{len(here - there)} ids to have", f"{len(have)} came")


def _notes(author: Signer, count: int, *, seconds: int = 1) -> list[WireEvent]:
    start = now() - 1000
    return [author.sign(1, str(n), created_at=start + n * seconds) for n in range(count)]


@NIP_77.must("the client learns the IDs that the relay has: all of them, when it has none")
async def learns_everything_from_nothing(trial: Trial) -> None:
    author = trial.signer()
    await _learns(trial, _notes(author, 5), [], author)


@NIP_77.must("the client learns the IDs that it has and the relay needs")
async def learns_what_the_relay_lacks(trial: Trial) -> None:
    author = trial.signer()
    await _learns(trial, [], _notes(author, 5), author)


@NIP_77.must("the client learns about IDs it has/needs")
async def learns_both_differences(trial: Trial) -> None:
    author = trial.signer()
    events = _notes(author, 20)
    await _learns(trial, events[:15], events[5:], author)


@NIP_77.must("if two timestamps are equal then items are sorted lexically by ID")
async def equal_times_are_told_apart(trial: Trial) -> None:
    author = trial.signer()
    events = _notes(author, 40, seconds=0)
    await _learns(trial, events[:30], events[10:], author)


@NIP_77.must("relay and client alternate sending each other NEG-MSGs: over several rounds")
async def many_events_take_several_rounds(trial: Trial) -> None:
    author = trial.signer()
    events = _notes(author, 150)
    theirs = [event for n, event in enumerate(events) if n % 37 != 5]
    ours = [event for n, event in enumerate(events) if n % 23 != 7]
    await _learns(trial, theirs, ours, author)


@NIP_77.must("Fingerprint: the addition mod 2^256 of the element IDs, their number, SHA-256")
async def equal_sets_have_equal_fingerprints(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    events = _notes(author, 20)
    await client.accept(*events)
    records = sorted(_records(events))
    whole = Range(Record((1 << 64) - 1, bytes(32)), FINGERPRINT, fingerprint_of(records), ())
    message = await _opened(client, {"authors": [author.pubkey]}, message_of([whole]))
    for one in ranges_of(message):
        demand(one.mode == SKIP, "nothing but Skip ranges", f"mode {one.mode} came")


@NIP_77.must("the addition of the element IDs: sets that differ have other fingerprints")
async def different_sets_have_different_fingerprints(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    events = _notes(author, 20)
    await client.accept(*events)
    other = [*_records(events)[1:], Record(now(), _NOBODYS_ID)]
    whole = Range(Record((1 << 64) - 1, bytes(32)), FINGERPRINT, fingerprint_of(other), ())
    message = await _opened(client, {"authors": [author.pubkey]}, message_of([whole]))
    modes = {one.mode for one in ranges_of(message)}
    demand(modes - {SKIP}, "ranges to go on with", "only Skip ranges came")


@NIP_77.must("the relay selects the set of events that match the filter")
async def the_filter_selects(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    time = now() - 100
    events = [
        author.sign(1, "0", [["t", word]], time),
        author.sign(7, "1", [["t", word]], time),
        author.sign(1, "2", [], time + 10),
        author.sign(1, "3", [], time + 20),
    ]
    await client.accept(*events)
    mine: dict[str, object] = {"authors": [author.pubkey]}
    for filter_, expected in (
        ({**mine, "kinds": [7]}, {1}),
        ({"#t": [word]}, {0, 1}),
        ({**mine, "since": time + 10}, {2, 3}),
        ({**mine, "until": time + 10}, {0, 1, 2}),
        ({"ids": [events[3]["id"]]}, {3}),
    ):
        need, _ = await _reconcile(client, filter_, [])
        found = {n for n, event in enumerate(events) if event["id"] in need}
        demand(
            found == expected and len(need) == len(expected),
            f"{sorted(expected)} for {shown(filter_)}",
            f"{sorted(found)} came",
        )


@NIP_77.must("it should reply with a single byte containing the highest protocol version")
async def an_unknown_version_is_answered_by_ours(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    answer = await _opened(client, {"authors": [author.pubkey]}, b"\x62" + _EMPTY[1:])
    demand(answer == b"\x61", "the byte 61", f"{answer.hex()} came")


@NIP_77.must("If a request cannot be serviced by the relay, an error is returned: NEG-ERR")
async def what_cannot_be_read_is_an_error(trial: Trial) -> None:
    client = await trial.client()
    filter_ = {"ids": ["0" * 64]}
    for what, arguments in (
        ("hex that is none", (filter_, "61zz")),
        ("an odd number of digits", (filter_, "610")),
        ("an empty message", (filter_, "")),
        ("a message that is cut", (filter_, _EMPTY.hex() + "05")),
        ("a filter that is a text", ("filter", _EMPTY.hex())),
        ("kinds that are text", ({"kinds": "1"}, _EMPTY.hex())),
    ):
        await client.send("NEG-OPEN", "bad", *arguments)
        message = await client.attempt(
            lambda m: m[0] in ("NEG-MSG", "NEG-ERR") and m[1:2] == ["bad"],
            patience=8 * client.pace.quiet,
        )
        demand(
            message is not None and message[0] == "NEG-ERR",
            f"a NEG-ERR for {what}",
            f"{shown(message)} came" if message else client.what_came(8 * client.pace.quiet),
        )


@NIP_77.should("Error reasons should begin with a machine-readable prefix, followed by a colon")
async def errors_have_a_prefix(trial: Trial) -> None:
    client = await trial.client()
    await client.send("NEG-OPEN", "bad", {"ids": ["0" * 64]}, "61zz")
    message = await client.receive("a NEG-ERR", lambda m: m[0] == "NEG-ERR")
    reason = message[2] if len(message) > 2 else None
    word, colon, _ = reason.partition(":") if isinstance(reason, str) else ("", "", "")
    demand(colon and word and " " not in word, "<prefix>: <message>", f"{shown(message)} came")


@NIP_77.must("When finished, the client releases resources with a NEG-CLOSE: then it is closed")
async def a_closed_sync_is_closed(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    filter_ = {"authors": [author.pubkey]}
    await _opened(client, filter_, _EMPTY)
    await client.send("NEG-CLOSE", "sync")
    await client.send("NEG-MSG", "sync", _EMPTY.hex())
    await client.alive()
    await client.nothing("NEG-MSG for a sync that was closed", lambda m: m[0] == "NEG-MSG")


@NIP_77.should("closed: a message to a sync that is not open is told so, not left waiting")
async def messages_to_no_sync_are_answered(trial: Trial) -> None:
    client = await trial.client()
    await client.send("NEG-MSG", "never opened", _EMPTY.hex())
    message = await client.receive(
        "a NEG-ERR", lambda m: m[0] in ("NEG-ERR", "NEG-MSG"), patience=8 * client.pace.quiet
    )
    demand(message[0] == "NEG-ERR", "a NEG-ERR", f"{shown(message)} came")


@NIP_77.must("Subscription IDs are in a separate namespace from REQ subscription IDs")
async def ids_are_apart_from_requests(trial: Trial) -> None:
    client, writer, author = await trial.client(), await trial.client(), trial.signer()
    filter_ = {"authors": [author.pubkey]}
    listening = await client.subscribe(filter_, name="same")
    await _opened(client, filter_, _EMPTY, "same")
    await client.send("NEG-CLOSE", "same")
    await client.alive()
    event = author.sign(1, "new")
    await writer.accept(event)
    await listening.event(event)
    await _opened(client, filter_, _EMPTY, "same")
    await listening.close()
    await client.alive()
    await client.send("NEG-MSG", "same", _EMPTY.hex())
    _binary(await _answer(client, "same"))


@NIP_77.must("a NEG-OPEN for a currently open subscription ID: the existing one is first closed")
async def a_used_id_is_opened_anew(trial: Trial) -> None:
    client, first, second = await trial.client(), trial.signer(), trial.signer()
    events = [first.sign(1, "first"), second.sign(1, "second")]
    await client.accept(*events)
    await _opened(client, {"authors": [first.pubkey]}, _EMPTY)
    reconciler = Reconciler([])
    reconciler.next(await _opened(client, {"authors": [second.pubkey]}, _EMPTY))
    found = {one.hex() for one in reconciler.need}
    demand(found == {events[1]["id"]}, "the new filter's ids", f"{len(found)} others came")


@NIP_77.must("distinguish it from any other concurrent subscriptions: several at one time")
async def several_syncs_at_one_time(trial: Trial) -> None:
    client, authors = await trial.client(), [trial.signer() for _ in range(3)]
    events = [author.sign(1, "one each") for author in authors]
    await client.accept(*events)
    for number, author in enumerate(authors):
        filter_ = {"authors": [author.pubkey]}
        await client.send("NEG-OPEN", str(number), filter_, _EMPTY.hex())
    for number in (2, 0, 1):
        reconciler = Reconciler([])
        reconciler.next(_binary(await _answer(client, str(number))))
        found = {one.hex() for one in reconciler.need}
        demand(found == {events[number]["id"]}, "the ids of its own filter", "others came")


@NIP_77.must("the events that it has: neither what was deleted nor what was replaced")
async def what_is_gone_is_not_offered(trial: Trial) -> None:
    trial.needs(9)
    client, author, time = await trial.client(), trial.signer(), now() - 50
    gone = author.sign(1, "deleted", created_at=time)
    old = author.sign(10002, "old", created_at=time)
    new = author.sign(10002, "new", created_at=time + 1)
    await client.accept(gone, old, new, author.sign(5, "", [["e", gone["id"]]], time + 2))
    need, _ = await _reconcile(client, {"authors": [author.pubkey], "kinds": [1, 10002]}, [])
    demand(need == {new["id"]}, "the latest version alone", f"{len(need)} came")


@NIP_77.should("private events are for their recipients, by whatever message (NIP-17, NIP-59)")
async def strangers_do_not_sync_messages(trial: Trial) -> None:
    if not (trial.supports(17) or trial.supports(59)):
        trial.needs(59)
    recipient = trial.signer()
    event = wrap(trial, recipient.pubkey)
    client = await trial.client()
    await client.accept(event)
    for filter_ in ({"kinds": [WRAP], "#p": [recipient.pubkey]}, {"ids": [event["id"]]}):
        await client.send("NEG-OPEN", "curious", filter_, _EMPTY.hex())
        message = await _answer(client, "curious")
        if message[0] == "NEG-ERR":
            continue
        reconciler = Reconciler([])
        reconciler.next(_binary(message))
        demand(not reconciler.need, "that a stranger learns nothing", f"{shown(filter_)} tells")


@NIP_77.practice("recipients learn of their private events as of any others (NIP-17, NIP-59)")
async def recipients_sync_their_messages(trial: Trial) -> None:
    if not (trial.supports(17) or trial.supports(59)):
        trial.needs(59)
    recipient = trial.signer()
    event = wrap(trial, recipient.pubkey)
    await (await trial.client()).accept(event)
    known = await trial.known_client(recipient)
    need, _ = await _reconcile(known, {"kinds": [WRAP], "#p": [recipient.pubkey]}, [])
    demand(need == {event["id"]}, "that the recipient learns it", f"{len(need)} came")


@NIP_77.must("performed over the same websocket connection in parallel")
async def requests_go_on_meanwhile(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "meanwhile")
    await _opened(client, {"authors": [author.pubkey]}, _EMPTY)
    await client.accept(event)
    found = await client.ids({"ids": [event["id"]]})
    demand(found == [event["id"]], "the event", f"{len(found)} came")
