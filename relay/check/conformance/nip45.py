"""NIP-45: counts, and HyperLogLog bit by bit.

The registers are computed here from the text, apart from the relay's own code.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final

from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, now
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import Inconclusive, NotSupported, broken, demand

NIP_45: Final = Chapter(45, "Event counts")

_REGISTERS: Final = 256
_HEX: Final = frozenset("0123456789abcdef")


def _exactly(found: dict[str, Any], expected: int) -> None:
    if found.get("approximate") is True:
        raise Inconclusive(f"the relay counts approximately ({found['count']}), which it may")
    demand(found["count"] == expected, f"a count of {expected}", f"{found['count']} came")


@NIP_45.must('Counts are returned in the form {"count": <integer>}')
async def counts_what_matches(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    events = [author.sign(kind, str(n), [["t", word]]) for kind in (1, 7) for n in range(3)]
    await client.accept(*events)
    mine: dict[str, object] = {"authors": [author.pubkey]}
    for filter_, expected in (
        (mine, 6),
        ({**mine, "kinds": [7]}, 3),
        ({"#t": [word]}, 6),
        ({"#t": [word], "kinds": [1, 7, 9]}, 6),
        ({"ids": [event["id"] for event in events[:2]]}, 2),
        ({**mine, "kinds": [6]}, 0),
        ({**mine, "until": now() - 1000}, 0),
    ):
        _exactly(await client.count(filter_), expected)


@NIP_45.must("Multiple filters are OR'd together and aggregated into a single count result")
async def filters_are_counted_together(trial: Trial) -> None:
    client, first, second = await trial.client(), trial.signer(), trial.signer()
    word = trial.word()
    await client.accept(
        first.sign(1, "by author"),
        first.sign(1, "by both", [["t", word]]),
        second.sign(7, "by tag", [["t", word]]),
        second.sign(1, "by none"),
    )
    author, tag = {"authors": [first.pubkey]}, {"#t": [word]}
    _exactly(await client.count(author, tag), 3)
    _exactly(await client.count(author, author, {"kinds": [1], **author}), 2)
    _exactly(await client.count(tag, {"ids": ["0" * 64]}), 2)


@NIP_45.must("filters as specified in NIP-01: what is replaced is not there to be counted")
async def replaced_events_are_not_counted(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 10
    for order in range(3):
        await client.accept(author.sign(10002, str(order), created_at=time + order))
    _exactly(await client.count({"authors": [author.pubkey]}), 1)


@NIP_45.must("what was deleted is not there to be counted (NIP-09)")
async def deleted_events_are_not_counted(trial: Trial) -> None:
    trial.needs(9)
    client, author = await trial.client(), trial.signer()
    events = [author.sign(1, str(n)) for n in range(3)]
    await client.accept(*events, author.sign(5, "", [["e", events[0]["id"]]]))
    _exactly(await client.count({"authors": [author.pubkey], "kinds": [1]}), 2)


@NIP_45.must('["COUNT", <query_id>, {"count": <integer>}]: the id of the query')
async def answers_bear_the_querys_id(trial: Trial) -> None:
    client, authors = await trial.client(), [trial.signer() for _ in range(4)]
    for number, author in enumerate(authors):
        await client.accept(*[author.sign(1, str(n)) for n in range(number)])
    for number, author in enumerate(authors):
        await client.send("COUNT", f"query-{number}", {"authors": [author.pubkey]})
    for number in reversed(range(4)):
        name = f"query-{number}"
        message = await client.receive(
            f"a COUNT for {name}",
            lambda m, name=name: m[:2] == ["COUNT", name],  # type: ignore[misc]
        )
        _exactly(message[2], number)


@NIP_45.practice("a COUNT is no subscription, also when both have one id")
async def a_count_is_no_subscription(trial: Trial) -> None:
    client, writer, author = await trial.client(), await trial.client(), trial.signer()
    mine = {"authors": [author.pubkey]}
    listening = await client.subscribe(mine, name="same")
    await client.send("COUNT", "same", mine)
    await client.receive("a COUNT", lambda m: m[:2] == ["COUNT", "same"])
    await client.send("COUNT", "other", mine)
    await client.receive("a COUNT", lambda m: m[:2] == ["COUNT", "other"])
    event = author.sign(1, "new")
    await writer.accept(event)
    await listening.event(event)
    await client.nothing("EVENT for a COUNT", lambda m: m[:2] == ["EVENT", "other"])


@NIP_45.must(
    "Whenever the relay decides to refuse to fulfill the COUNT request, it MUST return a"
    " CLOSED message"
)
async def a_refused_count_is_closed(trial: Trial) -> None:
    client = await trial.client()
    for what, filters in (
        ("authors that are no pubkeys", [{"authors": ["nobody"]}]),
        ("an unknown field", [{"unknown_field": 1}]),
        ("others' gift wraps", [{"kinds": [1059], "#p": [trial.signer().pubkey]}]),
    ):
        name = client.name()
        await client.send("COUNT", name, *filters)
        outcome = await client.request_outcome(name, "COUNT")
        if outcome is None:
            expected = f"COUNT or CLOSED for {what}"
            broken(expected, client.what_came(8 * client.pace.quiet))
        if outcome[0] == "CLOSED":
            reason = outcome[2] if len(outcome) > 2 else ""
            has_prefix = isinstance(reason, str) and ":" in reason
            demand(has_prefix, "a reason with a prefix", f"{shown(outcome)} came")


@NIP_45.may('approximate: MAY indicate it, {"count": <integer>, "approximate": <true|false>}')
async def approximate_is_a_flag(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    await client.accept(author.sign(1))
    found = await client.count({"authors": [author.pubkey]})
    flag = found.get("approximate", False)
    demand(type(flag) is bool, "true or false", f"{shown(found)} came")


# HyperLogLog


def offset_of(value: str) -> int:
    """Return the offset for the first value of a filter's first tag attribute."""
    if len(value) == 64 and _HEX.issuperset(value):
        digits = value
    elif value.count(":") >= 2 and _HEX.issuperset(value.split(":")[1]):
        digits = value.split(":")[1]
    else:
        digits = sha256(value.encode()).hexdigest()
    return int(digits[32], 16) + 8


def registers_of(pubkeys: Iterable[str], offset: int) -> str:
    """Return the registers that these authors make, in hex."""
    registers = bytearray(_REGISTERS)
    for pubkey in pubkeys:
        key = bytes.fromhex(pubkey)
        rest = key[offset + 1 :]
        zeros = len(rest) * 8 - int.from_bytes(rest, "big").bit_length()
        registers[key[offset]] = max(registers[key[offset]], zeros + 1)
    return registers.hex()


async def _hll(trial: Trial, letter: str, value: str, kind: int) -> None:
    client = await trial.client()
    authors = [trial.signer() for _ in range(24)]
    events = [author.sign(kind, "", [[letter, value]]) for author in authors]
    # one author twice: registers are of authors
    events.append(authors[0].sign(kind, "again", [[letter, value]], now() + 1))
    await client.accept(*events)
    found = await client.count({"kinds": [kind], f"#{letter}": [value]})
    if "hll" not in found:
        raise NotSupported("the relay returns no hll, which it need not")
    hll = found["hll"]
    is_hex = isinstance(hll, str) and len(hll) == 2 * _REGISTERS and _HEX.issuperset(hll.lower())
    demand(is_hex, "512 hexadecimal digits", f"{shown(hll)} came")
    expected = registers_of([author.pubkey for author in authors], offset_of(value))
    demand(hll.lower() == expected, f"the registers {expected}", f"{hll} came")


@NIP_45.must("the algorithm, for an event id: use it as it is")
async def hll_of_an_event_id(trial: Trial) -> None:
    await _hll(trial, "e", trial.signer().sign()["id"], 7)


@NIP_45.must("the algorithm, for a pubkey: use it as it is (follower count)")
async def hll_of_a_pubkey(trial: Trial) -> None:
    # a follow list is replaceable, and its second version counts for the same author
    await _hll(trial, "p", trial.signer().pubkey, 3)


@NIP_45.must("the algorithm, for an upper-case tag (comment count)")
async def hll_of_an_upper_case_tag(trial: Trial) -> None:
    await _hll(trial, "E", trial.signer().sign()["id"], 1111)


@NIP_45.must("the algorithm, for an address (<kind>:<pubkey>:<d-tag>): use the <pubkey> part")
async def hll_of_an_address(trial: Trial) -> None:
    address = f"30023:{trial.signer().pubkey}:{trial.word()}:with:colons"
    # the hash of the whole address would often give the same offset: not this one
    while offset_of(address) == int(sha256(address.encode()).hexdigest()[32], 16) + 8:
        address += "x"
    await _hll(trial, "a", address, 7)


@NIP_45.must("the algorithm, for anything else: hash it with a sha256()")
async def hll_of_any_other_value(trial: Trial) -> None:
    await _hll(trial, "t", trial.word(), 1)


@NIP_45.must("offset: a base-16 number plus 8, so from 8 to 23: at both ends")
async def hll_at_both_ends(trial: Trial) -> None:
    for last in ("0", "f"):
        pubkey = Signer().pubkey
        await _hll(trial, "e", pubkey[:32] + last + pubkey[33:], 7)
