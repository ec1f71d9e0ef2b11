"""A served relay under management: what each method brings about, and that a restart keeps it."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from relay.ops.cli import main
from tests.corpus import Author
from tests.managing import ADMIN, call, document, post, request, result
from tests.served import Client, ServedRelay, client, served_relay

CONFIG = f"""
admins = ["{ADMIN.pubkey}"]
[information]
name = "before"
[names]
bob = "{"ab" * 32}"
"""
MEMBERS = f"""
admins = ["{ADMIN.pubkey}"]
[membership]
enabled = true
reading = "members"
"""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedRelay]:
    with served_relay(tmp_path_factory.mktemp("managed"), config=CONFIG) as served:
        yield served


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedRelay]:
    with served_relay(tmp_path_factory.mktemp("members"), config=MEMBERS) as served:
        yield served


def now() -> int:
    return int(time.time())


async def refused(peer: Client, author: Author, kind: int = 1, content: str = "") -> str:
    accepted, reason = await peer.publish(author.sign(kind, content, [], now()))
    return "" if accepted else reason


async def test_what_an_administrator_decides_holds_at_once_and_after_a_restart(
    relay: ServedRelay,
) -> None:
    port, url = relay.port, relay.url
    eve, bob = Author("eve"), Author("bob")
    spam = [eve.sign(1, f"spam {number}", [], now()) for number in range(3)]
    reported, reposted = (bob.sign(1, text, [], now()) for text in ("reported", "reposted"))
    async with client(url) as peer:
        await peer.accept(*spam, reported, reposted)
        tags = [["e", reported.id, "illegal"], ["p", bob.pubkey]]
        await peer.accept(ADMIN.sign(1984, "look at this", tags, now()))
        await peer.accept(eve.sign(1984, "", [["e", reposted.id, "spam"]], now()))
        supported = await result(port, "supportedmethods")
        assert "banpubkey" in supported
        needing = await result(port, "listeventsneedingmoderation")
        assert needing == [{"id": reported.id, "reason": "illegal: look at this"}]
        assert await result(port, "banevent", reported.id, "indeed") is True
        assert await result(port, "listeventsneedingmoderation") == []
        assert await result(port, "banpubkey", eve.pubkey, "spam") is True
        assert await result(port, "disallowkind", 7) is True
        assert await result(port, "changerelayname", "after") is True
        assert await result(port, "changerelaydescription", "changed") is True
        assert await result(port, "changerelayicon", "https://example.com/i.png") is True
        assert await result(port, "blockip", "203.0.113.0/24", "noise") is True
        assert await result(port, "createrole", "king", "King", "rules", 37, 1) is True
        assert await result(port, "assignrole", bob.pubkey, "king") is True

    async def holds() -> None:
        async with client(url) as peer:
            assert await refused(peer, eve) == "blocked: you are banned from this relay: spam"
            assert await refused(peer, bob, 7) == "blocked: events of kind 7 are not accepted here"
            accepted, reason = await peer.publish(reported)
            assert (accepted, reason) == (False, "blocked: an administrator has banned this event")
            assert await peer.request({"authors": [eve.pubkey]}) == []
            assert await peer.request({"ids": [reported.id]}) == []
            assert len(await peer.request({"ids": [reposted.id]})) == 1
            told = await document(port)
            (list_,) = await peer.request({"kinds": [13534]})
            assert list_.pubkey == told["self"]
            assert list_.tags == (("-",), ("member", bob.pubkey, "king"))
            (role,) = await peer.request({"kinds": [33534], "#d": ["king"]})
            assert ("label", "King") in role.tags
        assert (told["name"], told["description"]) == ("after", "changed")
        assert told["icon"] == "https://example.com/i.png"
        assert {5, 86, 98} <= set(told["supported_nips"])
        assert 43 not in told["supported_nips"]
        page = await request(port)
        assert b"<h1>after</h1>" in page.body
        banned = await result(port, "listbannedpubkeys")
        assert banned == [{"pubkey": eve.pubkey, "reason": "spam"}]
        banned = await result(port, "listbannedevents")
        assert banned == [{"id": reported.id, "reason": "indeed"}]
        blocked = await result(port, "listblockedips")
        assert blocked == [{"ip": "203.0.113.0/24", "reason": "noise"}]

    await holds()
    relay.restart()
    await holds()
    for method, *params in (
        ("unbanpubkey", eve.pubkey),
        ("allowevent", reported.id),
        ("allowkind", 7),
        ("changerelayname", ""),
        ("unblockip", "203.0.113.0/24"),
        ("unassignrole", bob.pubkey, "king"),
        ("deleterole", "king"),
    ):
        assert await result(port, method, *params) is True
    async with client(url) as peer:
        await peer.accept(eve.sign(7, "back", [], now()))
        assert await refused(peer, bob, 1) == "blocked: events of kind 1 are not accepted here"
        assert await peer.request({"kinds": [33534]}) == []
    told = await document(port)
    assert (told["name"], told["limitation"]["restricted_writes"]) == ("before", True)
    # a role can be made anew at once, and the kinds be as they were
    assert await result(port, "createrole", "king") is True
    assert await result(port, "disallowkind", 7) is True
    assert await result(port, "allowevent", reported.id, "again") is True
    async with client(url) as peer:
        await peer.accept(reported)
        assert len(await peer.request({"kinds": [33534]})) == 1
    assert (await document(port))["limitation"]["restricted_writes"] is False


async def test_the_records_are_for_administrators(relay: ServedRelay) -> None:
    told = await document(relay.port)
    await result(relay.port, "banpubkey", "12" * 32, "for the record")
    records = {"kinds": [30078], "authors": [told["self"]]}
    async with client(relay.url) as peer:
        await peer.send(["REQ", "r", records])
        assert (await peer.expect("CLOSED", "r"))[2].startswith("auth-required: ")
        assert await peer.request({"authors": [told["self"]], "kinds": [30078, 1]}) == []
        assert await peer.count({"authors": [told["self"]], "kinds": [30078, 1]}) == 0
        live = await peer.subscribe({"authors": [told["self"]], "limit": 0})
        await result(relay.port, "banpubkey", "34" * 32, "for the record")
        await peer.nothing(0.2)
        assert not peer.pending("EVENT", live)
        accepted, reason = await peer.authenticate(ADMIN, relay.url)
        assert accepted, reason
        found = await peer.request(records)
        audit = [
            json.loads(event.content) for event in found if "/audit/" in dict_of(event.tags)["d"]
        ]
        assert {
            "admin": ADMIN.pubkey,
            "method": "banpubkey",
            "params": ["34" * 32, "for the record"],
        } in audit
    log = relay.stderr_path.read_text()
    (line,) = [line for line in log.splitlines() if "managed" in line and "34" * 32 in line]
    assert ADMIN.pubkey in line


def dict_of(tags: tuple[tuple[str, ...], ...]) -> dict[str, str]:
    return {tag[0]: tag[1] for tag in tags if len(tag) > 1}


async def test_nobody_but_an_administrator_manages(relay: ServedRelay) -> None:
    body = b'{"method":"banpubkey","params":["' + b"ab" * 32 + b'"]}'
    reply = await post(relay.port, body, author=Author("eve"))
    assert reply.status == 403
    assert reply.json["error"].startswith("restricted: ")
    reply = await request(
        relay.port, "POST", headers={"Content-Type": "application/nostr+json+rpc"}, body=body
    )
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Nostr"
    assert reply.headers["access-control-allow-origin"] == "*"
    banned = [one["pubkey"] for one in await result(relay.port, "listbannedpubkeys")]
    assert "ab" * 32 not in banned


def test_the_log_of_changes_can_be_read_while_the_relay_runs(
    relay: ServedRelay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RELAY_CONFIG", raising=False)
    trio.run(result, relay.port, "banpubkey", "56" * 32, "näme \u009b31m")
    log = CliRunner().invoke(main, ["admin", "log", "--store", relay.store])
    assert log.exit_code == 0, log.output
    assert log.output.isascii()
    lines = [json.loads(line) for line in log.output.splitlines()]
    times = [datetime.fromisoformat(line.pop("time")) for line in lines]
    assert times == sorted(times)
    assert abs(times[-1].timestamp() - now()) < 60
    params = ["56" * 32, "näme \u009b31m"]
    assert {"admin": ADMIN.pubkey, "method": "banpubkey", "params": params} in lines
    nothing = CliRunner().invoke(main, ["admin", "log", "--store", str(tmp_path / "none")])
    assert nothing.exit_code == 1
    assert "never run" in nothing.output
    assert not list(tmp_path.iterdir())


def test_a_relay_that_does_not_know_its_url_warns(relay: ServedRelay) -> None:
    assert "there are administrators, but no public_url" in relay.stderr_path.read_text()


async def test_names_are_served(relay: ServedRelay) -> None:
    reply = await request(relay.port, target="/.well-known/nostr.json?name=bob")
    assert reply.json == {"names": {"bob": "ab" * 32}}
    assert reply.headers["access-control-allow-origin"] == "*"


async def test_a_blocked_address_is_shown_the_door(relay: ServedRelay) -> None:
    # the machine's own addresses, from which this test comes, cannot be blocked
    answer = await call(relay.port, "blockip", "127.0.0.1")
    assert "the machine itself" in answer["error"]


async def joined(relay: ServedRelay, author: Author, claim: str) -> tuple[bool, str]:
    async with client(relay.url) as peer:
        accepted, reason = await peer.authenticate(author, relay.url)
        assert accepted, reason
        tags = [["-"], ["claim", claim]]
        return await peer.publish(author.sign(28934, "", tags, now()))


async def invitation(relay: ServedRelay, author: Author) -> str:
    async with client(relay.url) as peer:
        assert (await peer.authenticate(author, relay.url))[0]
        (event,) = await peer.request({"kinds": [28935]})
        told = await document(relay.port)
        assert (event.kind, event.pubkey) == (28935, told["self"])
        assert ("-",) in event.tags
        return dict_of(event.tags)["claim"]


async def test_members_join_invite_and_leave(members: ServedRelay) -> None:
    told = await document(members.port)
    assert 43 in told["supported_nips"]
    assert told["limitation"]["restricted_writes"] is True
    bob, eve = Author("bob"), Author("eve")
    async with client(members.url) as stranger:
        await stranger.send(["REQ", "i", {"kinds": [28935]}])
        assert (await stranger.expect("CLOSED", "i"))[2].startswith("auth-required: ")
        await stranger.send(["REQ", "n", {"kinds": [1]}])
        assert (await stranger.expect("CLOSED", "n"))[2].startswith("auth-required: ")
        assert (await refused(stranger, bob)).startswith("auth-required: ")
        await stranger.authenticate(bob, members.url)
        assert (await refused(stranger, bob)).startswith("restricted: ")
        await stranger.send(["REQ", "i", {"kinds": [28935]}])
        assert (await stranger.expect("CLOSED", "i"))[2].startswith("restricted: ")

    async with client(members.url) as watcher:
        await watcher.authenticate(ADMIN, members.url)
        live = await watcher.subscribe({"kinds": [8000, 8001, 13534, 28934, 28935, 28936]})
        (offered,) = [await watcher.event(live)]
        assert offered.kind == 28935
        code = await invitation(members, ADMIN)
        assert await joined(members, bob, code) == (
            True,
            "info: welcome to this relay!",
        )
        seen = [await watcher.event(live) for _ in range(2)]
        assert sorted(event.kind for event in seen) == [8000, 13534]
        assert await joined(members, bob, code) == (
            True,
            "duplicate: you are already a member of this relay.",
        )
        assert await joined(members, eve, code) == (
            False,
            "restricted: that invite code was used already.",
        )
        assert await joined(members, eve, code[::-1]) == (
            False,
            "restricted: that is an invalid invite code.",
        )
        # neither requests nor codes are anybody else's business
        await watcher.nothing(0.2)

        another = await invitation(members, bob)
        assert another != code
        assert (await joined(members, eve, another))[0]

    async with client(members.url) as member:
        await member.authenticate(bob, members.url)
        await member.accept(bob.sign(1, "hello", [], now()))
        await member.accept(Author("one time key").sign(1059, "", [["p", eve.pubkey]], now()))
        assert len(await member.request({"kinds": [1]})) == 1
        (list_,) = await member.request({"kinds": [13534]})
        assert {tag[1] for tag in list_.tags[1:]} == {bob.pubkey, eve.pubkey}
        # he leaves, and with that may no longer read
        leaving = bob.sign(28936, "", [["-"]], now())
        assert (await member.publish(leaving))[0]
        code_, reason = await member.closed()
        assert code_ == 1008
        assert reason is not None
        assert reason.startswith("restricted: ")


async def test_a_restarted_relay_knows_its_members_and_its_codes(members: ServedRelay) -> None:
    carol, dave = Author("carol"), Author("dave")
    used, fresh = await invitation(members, ADMIN), await invitation(members, ADMIN)
    assert (await joined(members, carol, used))[0]
    members.restart()
    async with client(members.url) as member:
        await member.authenticate(carol, members.url)
        await member.accept(carol.sign(1, "still here", [], now()))
    assert await joined(members, dave, used) == (
        False,
        "restricted: that invite code was used already.",
    )
    assert (await joined(members, dave, fresh))[0]
    assert await result(members.port, "banpubkey", dave.pubkey) is True
    listed = [one["pubkey"] for one in await result(members.port, "listallowedpubkeys")]
    assert dave.pubkey not in listed
    assert carol.pubkey in listed


async def test_calls_at_the_same_time_are_all_carried_out(relay: ServedRelay) -> None:
    pubkeys = [f"{number:064x}" for number in range(1, 21)]
    async with trio.open_nursery() as nursery:
        for pubkey in pubkeys:
            nursery.start_soon(result, relay.port, "allowpubkey", pubkey)
    allowed: list[dict[str, Any]] = await result(relay.port, "listallowedpubkeys")
    assert {one["pubkey"] for one in allowed} >= set(pubkeys)
