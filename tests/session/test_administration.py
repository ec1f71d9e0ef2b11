"""The management API within one process: what is judged before what, and what others notice."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from relay.ops.offices import reaction
from relay.policy.management import Management, ManagementRules
from relay.policy.membership import Membership, MembershipRules
from relay.policy.records import PrivateRecord
from relay.policy.ruling import Ruling
from relay.protocol.event import Event
from relay.protocol.identity import Identity
from relay.session.administration import MAX_BODY_BYTES, MEDIA_TYPE, Administration
from relay.session.core import Ending
from relay.session.front_door import Request, Response, WithBody
from relay.session.steward import Answer
from relay.store.memory import MemoryStore
from tests.corpus import Author
from tests.managing import ADMIN, authorized, proof, request
from tests.served import client
from tests.session.serving import Serving, eventually, serve

EVE = Author("eve")
BODY = b'{"method":"listbannedpubkeys","params":[]}'


class Managed:
    """A server under management, asked without HTTP."""

    def __init__(self, identity: Identity | None = None) -> None:
        self.now = 1_700_000_000.0
        self.identity = identity or Identity.fresh()
        self.membership = Membership(MembershipRules(), secret=b"x")
        rules = ManagementRules(admins=frozenset([ADMIN.pubkey]))
        self.management = Management(rules, self.identity.pubkey, self.membership)
        self.under_way = 0
        self.serving: Serving
        self.administration: Administration

    async def start(self, nursery: trio.Nursery, **more: Any) -> "Managed":
        self.serving = await serve(
            nursery,
            identity=self.identity,
            offices=(self.membership, self.management),
            is_blocked=self.management.is_blocked,
            wall_clock=lambda: self.now,
            **more,
        )
        steward = self.serving.server.steward
        assert steward is not None
        self.administration = Administration(
            self.serving.core,
            self.management,
            steward.perform,
            under_way=lambda: self.under_way,
        )
        return self

    def judge(self, event: Event, target: str = "/", **headers: str) -> Response | WithBody:
        given = {"host": "127.0.0.1:7777", **{k.lower(): v for k, v in authorized(event).items()}}
        given.update({name.replace("_", "-"): value for name, value in headers.items()})
        asked = Request("POST", target, tuple(given.items()), b"", wants_upgrade=False)
        answer = self.administration.answer(asked, "192.0.2.9")
        assert answer is not None
        return answer

    def proof(self, body: bytes = BODY, **more: Any) -> Event:
        given = {"at": int(self.now), "url": "http://127.0.0.1:7777/", **more}
        return proof(body, given.pop("url"), **given)

    async def call(self, method: str, *params: object) -> Any:
        body = json.dumps({"method": method, "params": params}).encode()
        judged = self.judge(self.proof(body))
        assert isinstance(judged, WithBody)
        return json.loads((await judged.answer(body)).body)


def refusal(answer: Response | WithBody) -> tuple[int, str]:
    assert isinstance(answer, Response)
    error: str = json.loads(answer.body)["error"]
    return answer.status, error


async def test_an_authorization_is_good_for_one_call(nursery: trio.Nursery) -> None:
    managed = await Managed().start(nursery)
    event = managed.proof()
    assert isinstance(managed.judge(event), WithBody)
    status, error = refusal(managed.judge(event))
    assert status == 401
    assert "used already" in error
    assert isinstance(managed.judge(managed.proof()), WithBody)
    managed.now += 61
    assert refusal(managed.judge(event))[0] == 401


async def test_another_process_knows_a_call_that_changed_something(nursery: trio.Nursery) -> None:
    managed = await Managed().start(nursery)
    body = json.dumps({"method": "banpubkey", "params": [EVE.pubkey]}).encode()
    event = managed.proof(body)
    judged = managed.judge(event)
    assert isinstance(judged, WithBody)
    assert json.loads((await judged.answer(body)).body) == {"result": True}
    steward = managed.serving.server.steward
    assert steward is not None
    managed.administration = Administration(
        managed.serving.core, managed.management, steward.perform
    )
    assert refusal(managed.judge(event)) == (
        401,
        "auth-required: this authorization was used already",
    )


async def test_an_administrator_makes_so_many_calls_and_no_more(nursery: trio.Nursery) -> None:
    managed = await Managed().start(nursery)
    clock = 0.0
    managed.serving.core.steady_clock = lambda: clock
    judged = [managed.judge(managed.proof()) for _ in range(150)]
    assert [isinstance(one, WithBody) for one in judged] == [True] * 100 + [False] * 50
    assert refusal(judged[-1])[0] == 429
    clock = 1.0
    judged = [managed.judge(managed.proof()) for _ in range(50)]
    assert sum(isinstance(one, WithBody) for one in judged) == 20


async def test_the_head_is_judged_before_the_body_is_read(nursery: trio.Nursery) -> None:
    managed = await Managed().start(nursery)
    good = managed.judge(managed.proof())
    assert isinstance(good, WithBody)
    assert good.max_bytes == MAX_BODY_BYTES
    for answer, status in (
        (managed.judge(managed.proof(), content_type="application/json"), 415),
        (managed.judge(managed.proof(), content_type=""), 415),
        (managed.judge(managed.proof(), authorization=""), 401),
        (managed.judge(managed.proof(author=EVE)), 403),
        (managed.judge(managed.proof(url="http://relay.example/")), 401),
        (managed.judge(managed.proof(), target="/?x=1"), 401),
        (managed.judge(managed.proof(tags={"method": "GET"})), 401),
        (managed.judge(managed.proof(tags={"payload": None})), 401),
        (managed.judge(managed.proof(), x_forwarded_proto="https"), 401),
    ):
        assert refusal(answer)[0] == status
        if status == 401:
            assert isinstance(answer, Response)
            assert ("WWW-Authenticate", "Nostr") in answer.headers
    with_parameters = managed.judge(managed.proof(), content_type=f"{MEDIA_TYPE}; charset=utf-8")
    assert isinstance(with_parameters, WithBody)


async def test_a_relay_that_is_stopping_takes_no_calls(nursery: trio.Nursery) -> None:
    managed = await Managed().start(nursery)
    managed.serving.core.draining = True
    assert refusal(managed.judge(managed.proof())) == (503, "error: shutting down")


async def test_the_url_is_the_one_that_the_operator_names(nursery: trio.Nursery) -> None:
    managed = await Managed().start(nursery, public_url="wss://relay.example")
    for url in ("wss://relay.example", "https://relay.example/", "https://RELAY.example:443"):
        assert isinstance(managed.judge(managed.proof(url=url)), WithBody)
    # what a request says of itself does not count then
    assert refusal(managed.judge(managed.proof()))[0] == 401
    elsewhere = managed.proof(url="https://evil.example/")
    judged = managed.judge(elsewhere, host="evil.example", x_forwarded_proto="https")
    assert refusal(judged)[0] == 401


async def test_a_proxy_that_speaks_tls_is_believed(nursery: trio.Nursery) -> None:
    managed = await Managed().start(nursery)
    event = managed.proof(url="https://relay.example/")
    judged = managed.judge(event, host="relay.example", x_forwarded_proto="https")
    assert isinstance(judged, WithBody)


async def test_what_was_judged_before_a_ban_is_removed_behind_it(nursery: trio.Nursery) -> None:
    """An event that passed the check before the ban may be stored after it."""
    managed = await Managed().start(nursery)
    late = EVE.sign(1, "late", [], int(managed.now))
    async with client(managed.serving.url) as peer, trio.open_nursery() as callers:
        managed.under_way = 1
        callers.start_soon(managed.call, "banpubkey", EVE.pubkey)
        await eventually(lambda: EVE.pubkey in managed.management.banned_pubkeys)
        # as if its check had been before
        reason = managed.management.banned_pubkeys.pop(EVE.pubkey)
        await peer.accept(late)
        managed.management.banned_pubkeys[EVE.pubkey] = reason
        managed.under_way = 0
    async with client(managed.serving.url) as peer:
        assert await peer.request({"ids": [late.id]}) == []


async def test_a_ban_is_recorded_before_anything_is_removed(nursery: trio.Nursery) -> None:
    """Else an author with very many events could write on while they are removed."""
    managed = await Managed().start(nursery)
    steward = managed.serving.server.steward
    assert steward is not None
    rulings: list[Ruling] = []

    async def perform(decide: Callable[[], Ruling]) -> Answer:
        rulings.append(decide())
        answer = await steward.perform(decide)
        if unban_between and len(rulings) == 1:
            managed.management.banned_pubkeys.clear()
        return answer

    managed.administration = Administration(managed.serving.core, managed.management, perform)
    for unban_between in (False, True):
        rulings.clear()
        await managed.call("banpubkey", EVE.pubkey, str(unban_between))
        first, second = rulings
        assert first.drafts
        assert not first.erase
        # what is allowed again meanwhile is not removed
        assert bool(second.erase) is not unban_between
        assert not second.drafts


async def test_a_call_is_logged_once_and_what_changes_nothing_is_not(nursery: trio.Nursery) -> None:
    managed = await Managed().start(nursery)
    for method, params in (
        ("banpubkey", [EVE.pubkey, "x" * 300]),
        ("banpubkey", [EVE.pubkey, "x" * 300]),
        ("banpubkey", ["nonsense"]),
        ("listbannedpubkeys", []),
    ):
        await managed.call(method, *params)
    lines = [line for line in managed.serving.journal.lines if line[1] == "managed"]
    fields = {
        "admin": ADMIN.pubkey,
        "address": "192.0.2.9",
        "method": "banpubkey",
        "params": [EVE.pubkey, "x" * 200],
    }
    assert lines == [("info", "managed", fields)]


async def test_a_blocked_address_loses_its_connections_and_gets_no_new_ones(
    nursery: trio.Nursery,
) -> None:
    managed = await Managed().start(nursery)
    server = managed.serving.server
    react = reaction(managed.management, lambda: None, server)
    async with client(managed.serving.url) as peer:
        await peer.subscribe({"kinds": [1]})
        # no call can block this machine's own address, from which the test comes
        managed.management.addresses.block("127.0.0.1", "")
        react(PrivateRecord("address", "127.0.0.1", {"reason": ""}, 0))
        assert await peer.closed() == (1008, "restricted: this address was blocked")
    await eventually(lambda: managed.serving.core.counters.endings[Ending.DISMISSED] == 1)
    reply = await request(managed.serving.port)
    assert (reply.status, reply.body) == (403, b"This address is blocked.\n")
    managed.management.addresses.unblock("127.0.0.1")
    async with client(managed.serving.url) as peer:
        await peer.subscribe({"kinds": [1]})


@pytest.mark.parametrize(
    ("event", "params", "needing"),
    [("reported", [], True), ("never stored", [], False), ("reported", [1], None)],
)
async def test_what_needs_moderation_is_what_is_stored(
    nursery: trio.Nursery, event: str, params: list[object], *, needing: bool | None
) -> None:
    managed = await Managed().start(nursery)
    subject = EVE.sign(1, event, [], int(managed.now))
    async with client(managed.serving.url) as peer:
        if event == "reported":
            await peer.accept(subject)
        tags = [["e", subject.id, "spam"]]
        await peer.accept(ADMIN.sign(1984, "", tags, int(managed.now)))
    answer = await managed.call("listeventsneedingmoderation", *params)
    if needing is None:
        assert "parameters" in answer["error"]
    else:
        assert answer == {"result": [{"id": subject.id, "reason": "spam"}] if needing else []}


async def test_what_one_process_decides_holds_in_all_of_them(nursery: trio.Nursery) -> None:
    # two servers on one store are what two processes are: each with a view and a log of its own
    store, identity = MemoryStore(), Identity.fresh()
    here = await Managed(identity).start(nursery, store=store)
    there = await Managed(identity).start(nursery, store=store)
    assert await here.call("banpubkey", EVE.pubkey, "spam") == {"result": True}
    assert await here.call("disallowkind", 7) == {"result": True}
    expected = {"result": [{"pubkey": EVE.pubkey, "reason": "spam"}]}
    await eventually(lambda: EVE.pubkey in there.management.banned_pubkeys)
    await eventually(lambda: 7 in there.management.disallowed_kinds)
    assert await there.call("listbannedpubkeys") == expected
    async with client(there.serving.url) as one:
        accepted, reason = await one.publish(EVE.sign(1, "still here", [], int(there.now)))
        assert (accepted, reason) == (False, "blocked: you are banned from this relay: spam")
        accepted, reason = await one.publish(ADMIN.sign(7, "+", [], int(there.now)))
        assert (accepted, reason) == (False, "blocked: events of kind 7 are not accepted here")
