"""NIP-11 `limitation`: what the document says is what a peer meets, field by field.

Each probe is given the number that the document names, and tries what that allows, and a little
more than that.
"""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio

from relay import __version__
from relay.policy.management import ALLOWED, Management, ManagementRules
from relay.policy.membership import Membership, MembershipRules
from relay.policy.records import record_draft
from relay.protocol.event import Event
from relay.protocol.identity import Identity
from relay.protocol.information import Announcement, RelayInformation, document
from relay.protocol.limits import Limits
from tests.corpus import Author
from tests.served import Client, client
from tests.session.serving import serve

AUTHOR = Author("limits")
LIMITS = Limits(
    max_message_length=2_048,
    max_subscriptions=3,
    max_filters=3,
    max_limit=5,
    default_limit=4,
    max_subid_length=10,
    max_event_tags=4,
    max_content_length=50,
    created_at_lower_limit=1_000,
    created_at_upper_limit=100,
)


def now() -> int:
    return int(time.time())


def note(number: int = 0, **more: Any) -> Event:
    given = {"content": f"note {number}", "tags": (), "created_at": now(), **more}
    return AUTHOR.sign(1, **given)


async def refusal(peer: Client, event: Event) -> str:
    accepted, reason = await peer.publish(event)
    return "" if accepted else reason


async def closing(peer: Client, name: str, *filters: dict[str, Any]) -> str:
    """Return why a request is refused; nothing when it is served."""
    await peer.send(["REQ", name, *filters])
    others = []
    while (message := await peer.receive())[:2] not in (["CLOSED", name], ["EOSE", name]):
        others.append(message)
    peer._unread.extend(others)
    return str(message[2]) if message[0] == "CLOSED" else ""


async def max_message_length(peer: Client, value: int) -> None:
    for length in (value, value + 1):
        filters = json.dumps({"authors": ["ab" * 32], "#t": [""]})
        text = f'["REQ","length",{filters}]'
        text = text.replace('"#t": [""]', f'"#t": ["{"x" * (length - len(text))}"]')
        assert len(text) == length
        await peer.send(text)
        if length == value:
            await peer.expect("EOSE", "length")
    assert (await peer.closed())[0] == 1009


async def max_subscriptions(peer: Client, value: int) -> None:
    for number in range(value):
        assert await closing(peer, f"s{number}", {"kinds": [7]}) == ""
    assert (await closing(peer, "more", {"kinds": [7]})).startswith("restricted: ")


async def max_filters(peer: Client, value: int) -> None:
    assert await closing(peer, "f", *[{"kinds": [7]}] * value) == ""
    assert "filters" in await closing(peer, "f", *[{"kinds": [7]}] * (value + 1))


async def max_limit(peer: Client, value: int) -> None:
    await peer.accept(*[note(number) for number in range(value + 1)])
    assert len(await peer.request({"kinds": [1], "limit": value + 1})) == value


async def default_limit(peer: Client, value: int) -> None:
    await peer.accept(*[note(number) for number in range(value + 1)])
    assert len(await peer.request({"kinds": [1]})) == value


async def max_subid_length(peer: Client, value: int) -> None:
    assert await closing(peer, "x" * value, {"kinds": [7]}) == ""
    await peer.send(["REQ", "x" * (value + 1), {"kinds": [7]}])
    assert (await peer.expect("CLOSED"))[2].startswith("invalid: ")


async def max_event_tags(peer: Client, value: int) -> None:
    assert await refusal(peer, note(tags=[["t", "x"]] * value)) == ""
    assert (await refusal(peer, note(tags=[["t", "x"]] * (value + 1)))).startswith("invalid: ")


async def max_content_length(peer: Client, value: int) -> None:
    # characters, not bytes
    assert await refusal(peer, note(content="ü" * value)) == ""
    assert (await refusal(peer, note(content="ü" * (value + 1)))).startswith("invalid: ")


async def created_at_lower_limit(peer: Client, value: int) -> None:
    assert await refusal(peer, note(created_at=now() - value + 5)) == ""
    assert (await refusal(peer, note(created_at=now() - value - 1))).startswith("invalid: ")


async def created_at_upper_limit(peer: Client, value: int) -> None:
    assert await refusal(peer, note(created_at=now() + value)) == ""
    assert (await refusal(peer, note(created_at=now() + value + 5))).startswith("invalid: ")


def work(event: Event) -> int:
    return 256 - int(event.id, 16).bit_length()


async def min_pow_difficulty(peer: Client, value: int) -> None:
    mined, lazy = None, None
    number = 0
    while mined is None or lazy is None:
        number += 1
        # a committed target, for a relay that asks for one (NIP-13)
        event = note(number, tags=[["nonce", str(number), str(value)]])
        if work(event) >= value:
            mined = event
        elif work(event) == value - 1:
            lazy = event
    assert await refusal(peer, mined) == ""
    assert (await refusal(peer, lazy)).startswith("pow: ")


async def auth_required(peer: Client, value: int) -> None:
    assert value is True
    assert (await refusal(peer, note())).startswith("auth-required: ")
    assert (await closing(peer, "a", {"kinds": [1]})).startswith("auth-required: ")
    await peer.send(["COUNT", "c", {"kinds": [1]}])
    assert (await peer.expect("CLOSED", "c"))[2].startswith("auth-required: ")
    assert (await peer.authenticate(AUTHOR, "ws://127.0.0.1"))[0]
    assert await refusal(peer, note()) == ""


async def payment_required(peer: Client, value: int) -> None:
    assert value is False
    assert await refusal(peer, note()) == ""


Probe = Callable[[Client, int], Awaitable[None]]
PROBES: dict[str, Probe] = {
    probe.__name__: probe
    for probe in (
        max_message_length,
        max_subscriptions,
        max_filters,
        max_limit,
        default_limit,
        max_subid_length,
        max_event_tags,
        max_content_length,
        created_at_lower_limit,
        created_at_upper_limit,
        min_pow_difficulty,
        auth_required,
        payment_required,
    )
}
RESTRICTED = "restricted_writes"
"""Is made of several rules; see below."""


def limitation(limits: Limits, *, restricted_writes: bool = False) -> Any:
    told = Announcement(
        information=RelayInformation(), limits=limits, restricted_writes=restricted_writes
    )
    return json.loads(document(told, version=__version__))["limitation"]


def test_every_field_is_probed() -> None:
    assert {*PROBES, RESTRICTED} == limitation(LIMITS).keys()


@pytest.mark.parametrize("name", PROBES)
async def test_a_peer_meets_what_is_advertised(nursery: trio.Nursery, name: str) -> None:
    limits = LIMITS
    if name == "min_pow_difficulty":
        limits = Limits(min_pow_difficulty=6)
    elif name == "auth_required":
        limits = Limits(auth_required=True)
    serving = await serve(nursery, limits=limits)
    async with client(serving.url) as peer:
        await PROBES[name](peer, limitation(limits)[name])


@pytest.mark.parametrize(
    ("members", "rules", "kinds", "restricted"),
    [
        (MembershipRules(), ManagementRules(), [], False),
        (MembershipRules(), ManagementRules(whitelist=True), [], True),
        (MembershipRules(enabled=True), ManagementRules(), [], True),
        (MembershipRules(enabled=True, writing="everyone"), ManagementRules(), [], False),
        (MembershipRules(), ManagementRules(), [7], True),
    ],
)
async def test_writing_is_restricted_where_that_is_advertised(
    nursery: trio.Nursery,
    members: MembershipRules,
    rules: ManagementRules,
    kinds: list[int],
    *,
    restricted: bool,
) -> None:
    identity = Identity.fresh()
    membership = Membership(members, secret=b"x")
    management = Management(rules, identity.pubkey, membership)
    for kind in kinds:
        draft = record_draft("kind", str(kind), {"state": ALLOWED})
        management.note(identity.sign(draft.kind, now(), draft.tags, draft.content))
    serving = await serve(nursery, identity=identity, offices=(membership, management))
    told = limitation(Limits(), restricted_writes=management.restricts_writing)
    async with client(serving.url) as peer:
        assert told[RESTRICTED] is restricted is (await refusal(peer, note()) != "")


def test_the_probed_limits_are_not_the_defaults() -> None:
    """A probe that met a default by chance would prove nothing."""
    probed = {name for name in PROBES if name in msgspec.structs.asdict(LIMITS)}
    changed = {name for name in probed if getattr(LIMITS, name) != getattr(Limits(), name)} | {
        "min_pow_difficulty",
        "auth_required",
    }
    assert changed == probed
