"""NIP-29: groups. Each test makes groups of its own, and deletes them when it is over."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from relay.check.conformance.client import Answer, Client
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, Tags, WireEvent, now
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import Inconclusive, NotSupported, RuleBroken, demand

NIP_29: Final = Chapter(29, "Relay-based groups")

_PUT: Final = 9000
_REMOVE: Final = 9001
_EDIT: Final = 9002
_DELETE_EVENT: Final = 9005
_CREATE: Final = 9007
_DELETE: Final = 9008
_INVITE: Final = 9009
_PIN: Final = 9010
_JOIN: Final = 9021
_LEAVE: Final = 9022
_METADATA: Final = 39000
_ADMINS: Final = 39001
_MEMBERS: Final = 39002
_PINS: Final = 39005
_CHAT: Final = 9
_LOOK_AGAIN: Final = 0.05


class _Person:
    """A key, and a connection that is authenticated with it where the relay offers that."""

    def __init__(self, signer: Signer, client: Client) -> None:
        self.signer = signer
        self.pubkey = signer.pubkey
        self.client = client


async def _person(trial: Trial, signer: Signer | None = None) -> _Person:
    signer = signer or trial.signer()
    client = await trial.client(authenticates=False)
    if await client.challenged() is not None:
        await client.authenticate(signer)
    return _Person(signer, client)


class _Group:
    """A group of this test; `owner` has created it."""

    def __init__(self, trial: Trial, group_id: str, owner: _Person) -> None:
        self.trial = trial
        self.id = group_id
        self.owner = owner

    def event(self, person: _Person, kind: int, tags: Tags = (), *, content: str = "") -> WireEvent:
        # without a word of its own, the same action twice in a second would be one event
        content = content or self.trial.word()
        return person.signer.sign(kind, content, [["h", self.id], *tags])

    async def offer(
        self, person: _Person, kind: int, tags: Tags = (), *, content: str = ""
    ) -> Answer:
        return await person.client.offer(self.event(person, kind, tags, content=content))

    async def do(self, kind: int, tags: Tags = (), *, by: _Person | None = None) -> None:
        """Do something that must be allowed."""
        answer = await self.offer(by or self.owner, kind, tags)
        if not answer.accepted:
            (by or self.owner).client.refused(answer, f"kind {kind} by who may do that")

    async def refused(self, person: _Person, kind: int, tags: Tags = (), what: str = "") -> Answer:
        """Try what must not be allowed."""
        answer = await self.offer(person, kind, tags)
        demand(
            not answer.accepted,
            f"that {what or f'kind {kind}'} is refused",
            f"{shown(answer.message)} came",
        )
        return answer

    async def put(self, person: _Person, *roles: str) -> None:
        """Make somebody a member."""
        await self.do(_PUT, [["p", person.pubkey, *roles]])

    async def state(
        self,
        kind: int,
        holds: Callable[[list[list[str]]], object],
        expected: str,
        *,
        reader: _Person | None = None,
    ) -> WireEvent:
        """Wait until the relay's own event of this kind is as it should be, and return it."""
        client = (reader or self.owner).client
        wanted = {"kinds": [kind], "#d": [self.id], "authors": [self.trial.relay_key]}
        found: list[WireEvent] = []
        with trio.move_on_after(self.trial.pace.patience / 2):
            while True:
                found = (await client.stored(wanted)).events
                if found and holds(found[0]["tags"]):
                    return found[0]
                await trio.sleep(_LOOK_AGAIN)
        demand(found, f"an event of kind {kind} by the relay's key", "none came")
        raise RuleBroken(expected, f"{shown(found[0]['tags'])} came")


@asynccontextmanager
async def _group(trial: Trial, *fields: list[str]) -> AsyncIterator[_Group]:
    """Create a group; with this metadata, if any is given."""
    owner = await _person(trial)
    group = _Group(trial, trial.word(), owner)
    answer = await group.offer(owner, _CREATE)
    if not answer.accepted and trial.subject.admin is not None:
        owner = await _person(trial, trial.subject.admin)
        group = _Group(trial, group.id, owner)
        answer = await group.offer(owner, _CREATE)
    if not answer.accepted:
        raise Inconclusive(f"the relay lets us create no group: {answer.reason}")
    if fields:
        await group.do(_EDIT, fields)
    yield group
    if not owner.client.has_ended:
        # ours alone; nobody waits for the answer
        await owner.client.send("EVENT", group.event(owner, _DELETE))
        await owner.client.alive()


def _pubkeys(tags: list[list[str]]) -> list[str]:
    return [tag[1] for tag in tags if tag[0] == "p"]


# Creation and what the relay tells


@NIP_29.must("39000: it must be generated and signed by the relay, with the group id in a d tag")
async def metadata_is_by_the_relay(trial: Trial) -> None:
    async with _group(trial) as group:
        event = await group.state(_METADATA, lambda tags: ["d", group.id] in tags, "a d tag")
        demand(event["pubkey"] == trial.relay_key, "the relay's key", f"{shown(event)} came")


@NIP_29.should("39001: each admin is listed along with one or more roles")
async def who_creates_is_an_admin(trial: Trial) -> None:
    async with _group(trial) as group:
        event = await group.state(
            _ADMINS, lambda tags: group.owner.pubkey in _pubkeys(tags), "the owner as admin"
        )
        (tag,) = (tag for tag in event["tags"] if tag[:2] == ["p", group.owner.pubkey])
        demand(len(tag) > 2, "a role", f"{tag} came")


@NIP_29.must("a single instance of each (or none) should exist at all times for each group")
async def one_instance_of_each(trial: Trial) -> None:
    async with _group(trial) as group:
        for name in ("first", "second", "third"):
            await group.do(_EDIT, [["name", name]])
        await group.state(_METADATA, lambda tags: ["name", "third"] in tags, "the latest name")
        for kind in (_METADATA, _ADMINS, _MEMBERS):
            found = await group.owner.client.ids({"kinds": [kind], "#d": [group.id]})
            demand(len(found) <= 1, f"one event of kind {kind}", f"{len(found)} came")


@NIP_29.must("Relays shouldn't accept these events if they're signed by anyone else")
async def nobody_else_tells_what_a_group_is(trial: Trial) -> None:
    async with _group(trial) as group:
        for kind in (_METADATA, _ADMINS, _MEMBERS, 39003, _PINS):
            forged = group.owner.signer.sign(kind, "", [["d", group.id]])
            answer = await group.owner.client.offer(forged)
            demand(not answer.accepted, f"that kind {kind} is refused", "it was accepted")


@NIP_29.must("edit-metadata: the relay's 39000 should reflect the latest group state")
async def metadata_is_edited(trial: Trial) -> None:
    fields = [["name", "Pizza Lovers"], ["about", "pizza"], ["picture", "https://x.example/p.png"]]
    async with _group(trial) as group:
        await group.do(_EDIT, [*fields, ["closed"], ["restricted"]])
        await group.state(
            _METADATA,
            lambda tags: all(one in tags for one in (*fields, ["closed"], ["restricted"])),
            "all the fields of the edit",
        )
        await group.do(_EDIT, [["name", "Pasta"]])
        await group.state(
            _METADATA,
            lambda tags: ["name", "Pasta"] in tags and ["closed"] not in tags,
            "the new name, and what was left out no longer",
        )


@NIP_29.should("create-group of a group that is there creates nothing")
async def a_group_is_created_once(trial: Trial) -> None:
    async with _group(trial) as group:
        other = await _person(trial)
        await group.refused(other, _CREATE, what="a second creation")
        await group.state(
            _ADMINS, lambda tags: other.pubkey not in _pubkeys(tags), "the first owner alone"
        )


# Who may do what


@NIP_29.must("relays should reject them if they don't come from an authorized admin")
async def strangers_may_not_moderate(trial: Trial) -> None:
    async with _group(trial) as group:
        stranger = await _person(trial)
        message = group.event(group.owner, _CHAT, content="to be kept")
        await group.owner.client.accept(message)
        for kind, tags in (
            (_PUT, [["p", stranger.pubkey, "admin"]]),
            (_REMOVE, [["p", group.owner.pubkey]]),
            (_EDIT, [["name", "taken over"]]),
            (_DELETE_EVENT, [["e", message["id"]]]),
            (_INVITE, [["code", trial.word()]]),
            (_PIN, [["e", message["id"]]]),
            (_DELETE, []),
        ):
            await group.refused(stranger, kind, tags, f"kind {kind} by a stranger")
        found = await group.owner.client.ids({"ids": [message["id"]]})
        demand(found == [message["id"]], "that nothing has come of it", "the message is gone")


@NIP_29.must(
    "Relays must check if the pubkey is capable of the action: a member without role is not"
)
async def members_may_not_moderate(trial: Trial) -> None:
    async with _group(trial) as group:
        member = await _person(trial)
        await group.put(member)
        for kind, tags in (
            (_PUT, [["p", trial.signer().pubkey]]),
            (_EDIT, [["name", "taken over"]]),
            (_DELETE, []),
        ):
            await group.refused(member, kind, tags, f"kind {kind} by a member")


@NIP_29.must("put-user: p with pubkey hex and optional roles; 39002 lists the members")
async def users_are_put_and_removed(trial: Trial) -> None:
    async with _group(trial) as group:
        member = await _person(trial)
        await group.put(member)
        await group.state(
            _MEMBERS, lambda tags: member.pubkey in _pubkeys(tags), "the member on the list"
        )
        await group.do(_REMOVE, [["p", member.pubkey]])
        await group.state(
            _MEMBERS, lambda tags: member.pubkey not in _pubkeys(tags), "the list without them"
        )


@NIP_29.must("even if the user is already a group member the user roles must just be updated")
async def roles_are_updated(trial: Trial) -> None:
    async with _group(trial) as group:
        admins = await group.state(_ADMINS, _pubkeys, "an admin")
        role = next(tag[2] for tag in admins["tags"] if tag[0] == "p")
        member = await _person(trial)
        await group.put(member)
        await group.put(member, role)
        await group.state(
            _ADMINS, lambda tags: ["p", member.pubkey, role] in tags, "the member with the role"
        )
        await group.do(_EDIT, [["name", "by the new admin"]], by=member)
        await group.put(member)
        await group.state(
            _ADMINS, lambda tags: member.pubkey not in _pubkeys(tags), "no role any more"
        )
        await group.refused(member, _EDIT, [["name", "too late"]], "an edit without the role")


@NIP_29.must("delete-event: e with event id hex")
async def events_are_deleted(trial: Trial) -> None:
    async with _group(trial) as group:
        events = [group.event(group.owner, _CHAT, content=str(n)) for n in range(2)]
        await group.owner.client.accept(*events)
        await group.do(_DELETE_EVENT, [["e", events[0]["id"]]])
        found = await group.owner.client.ids({"ids": [event["id"] for event in events]})
        demand(found == [events[1]["id"]], "the other event alone", f"{len(found)} came")
        await group.owner.client.offer(events[0])
        found = await group.owner.client.ids({"ids": [events[0]["id"]]})
        demand(not found, "that it does not come back", "it does")


@NIP_29.must("delete-group: the group is no more")
async def groups_are_deleted(trial: Trial) -> None:
    async with _group(trial) as group:
        await group.state(_METADATA, lambda tags: tags, "a group")
        await group.do(_DELETE)
        found = await group.owner.client.ids(
            {"kinds": [_METADATA, _ADMINS, _MEMBERS], "#d": [group.id]}
        )
        demand(not found, "nothing of the group", f"{len(found)} events came")


# Joining and leaving


@NIP_29.must("The relay may then generate a kind:9000 event, or defer that decision to an admin")
async def open_groups_may_be_joined(trial: Trial) -> None:
    async with _group(trial, ["name", "open"]) as group:
        person = await _person(trial)
        answer = await group.offer(person, _JOIN)
        if not answer.accepted:
            raise NotSupported(f"admission is not immediate, which it need not be: {answer.reason}")
        await group.state(
            _MEMBERS, lambda tags: person.pubkey in _pubkeys(tags), "the new member on the list"
        )
        wanted = {"kinds": [_PUT], "#h": [group.id], "#p": [person.pubkey]}
        found = await group.owner.client.ids(wanted)
        demand(found, "a kind 9000", "none came")


@NIP_29.must("If a user is already a member, the event MUST be rejected with duplicate:")
async def members_cannot_join(trial: Trial) -> None:
    async with _group(trial) as group:
        member = await _person(trial)
        await group.put(member)
        answer = await group.refused(member, _JOIN, what="a join request by a member")
        demand(answer.prefix == "duplicate", "duplicate: …", f"{answer.reason!r} came")


@NIP_29.must("Relays MUST reject the request if the user has not been added; closed: not honored")
async def closed_groups_cannot_be_joined(trial: Trial) -> None:
    async with _group(trial, ["name", "closed"], ["closed"]) as group:
        person = await _person(trial)
        answer = await group.refused(person, _JOIN, what="a request to a closed group")
        demand(answer.reason, "a message that explains", "none came")
        await group.refused(person, _JOIN, [["code", trial.word()]], "a code that nobody made")


@NIP_29.must("join requests are not honored unless they include an invite code")
async def invite_codes_open_closed_groups(trial: Trial) -> None:
    async with _group(trial, ["name", "closed"], ["closed"]) as group:
        code, person = trial.word(), await _person(trial)
        await group.do(_INVITE, [["code", code]])
        await group.do(_JOIN, [["code", code]], by=person)
        await group.state(
            _MEMBERS, lambda tags: person.pubkey in _pubkeys(tags), "the new member on the list"
        )


@NIP_29.practice("invite codes are not for everybody to read")
async def invite_codes_are_not_shown(trial: Trial) -> None:
    async with _group(trial, ["name", "closed"], ["closed"]) as group:
        await group.do(_INVITE, [["code", trial.word()]])
        stranger = await _person(trial)
        stored = await stranger.client.stored({"#h": [group.id]})
        kinds = [event["kind"] for event in stored.events]
        demand(_INVITE not in kinds, "no kind 9009", "a stranger sees one")


@NIP_29.must("leave: the relay will automatically issue a kind:9001 in response removing this user")
async def members_leave(trial: Trial) -> None:
    async with _group(trial) as group:
        member = await _person(trial)
        await group.put(member)
        await group.do(_LEAVE, by=member)
        await group.state(
            _MEMBERS, lambda tags: member.pubkey not in _pubkeys(tags), "the list without them"
        )
        wanted = {"kinds": [_REMOVE], "#h": [group.id], "#p": [member.pubkey]}
        found = await group.owner.client.ids(wanted)
        demand(found, "a kind 9001", "none came")


# Writing and reading


@NIP_29.must("restricted indicates that only members can write messages to the group")
async def restricted_groups_are_written_by_members(trial: Trial) -> None:
    async with _group(trial, ["name", "restricted"], ["restricted"]) as group:
        member, stranger = await _person(trial), await _person(trial)
        await group.put(member)
        await group.do(_CHAT, by=member)
        await group.refused(stranger, _CHAT, what="a message by a stranger")
        await group.do(_REMOVE, [["p", member.pubkey]])
        await group.refused(member, _CHAT, what="a message by a former member")


@NIP_29.must("Omitting this tag indicates that anyone can send messages to the group")
async def other_groups_are_written_by_anybody(trial: Trial) -> None:
    async with _group(trial, ["name", "unrestricted"]) as group:
        await group.do(_CHAT, by=await _person(trial))


@NIP_29.must("Groups may accept any event kind: with the addition of the h tag they are served")
async def messages_are_served(trial: Trial) -> None:
    async with _group(trial) as group:
        reader = await _person(trial)
        listening = await reader.client.subscribe({"#h": [group.id], "kinds": [_CHAT, 11]})
        for kind in (_CHAT, 11):
            event = group.event(group.owner, kind, content="hello")
            await group.owner.client.accept(event)
            await listening.event(event)
        found = await reader.client.ids({"#h": [group.id], "kinds": [_CHAT, 11]})
        demand(len(found) == 2, "two messages", f"{len(found)} came")


async def _seen(person: _Person, *filters: object) -> list[int]:
    """Return the kinds that are seen; none where the request is refused."""
    client = person.client
    kinds: list[int] = []
    name = client.name()
    await client.send("REQ", name, *filters)
    while True:
        message = await client.receive(
            "EOSE or CLOSED", lambda m: m[0] in ("EVENT", "EOSE", "CLOSED") and m[1:2] == [name]
        )
        if message[0] != "EVENT":
            return kinds
        kinds.append(message[2]["kind"])


@NIP_29.must("private indicates that only members can read group messages")
async def private_groups_are_read_by_members(trial: Trial) -> None:
    async with _group(trial, ["name", "private"], ["private"]) as group:
        member, stranger = await _person(trial), await _person(trial)
        anybody = _Person(trial.signer(), await trial.client())
        await group.put(member)
        event = group.event(group.owner, _CHAT, content="between us")
        await group.owner.client.accept(event)
        for person, is_member in ((member, True), (stranger, False), (anybody, False)):
            for filter_ in ({"#h": [group.id], "kinds": [_CHAT]}, {"ids": [event["id"]]}):
                found = await _seen(person, filter_)
                who = "a member" if is_member else "somebody else"
                demand(bool(found) is is_member, f"{is_member} for {who}", f"{len(found)} came")


@NIP_29.must("private: only members can read group messages, new ones as well")
async def private_messages_reach_members_alone(trial: Trial) -> None:
    async with _group(trial, ["name", "private"], ["private"]) as group:
        member, stranger = await _person(trial), await _person(trial)
        await group.put(member)
        listening = await member.client.subscribe({"#h": [group.id], "kinds": [_CHAT]})
        author = {"authors": [group.owner.pubkey]}
        await stranger.client.send("REQ", "curious", {"#h": [group.id]})
        await stranger.client.send("REQ", "very curious", author)
        await stranger.client.request_outcome("very curious")
        event = group.event(group.owner, _CHAT, content="between us")
        await group.owner.client.accept(event)
        await listening.event(event)
        await stranger.client.nothing(
            "EVENT", lambda m: m[0] == "EVENT" and m[2]["id"] == event["id"]
        )


@NIP_29.must("hidden indicates that relays should hide group metadata from non-members")
async def hidden_groups_are_seen_by_members(trial: Trial) -> None:
    async with _group(trial, ["name", "hidden"], ["hidden"], ["private"]) as group:
        member, stranger = await _person(trial), await _person(trial)
        await group.put(member)
        await group.state(_METADATA, lambda tags: ["hidden"] in tags, "the flag", reader=member)
        for filter_ in ({"kinds": [_METADATA, _ADMINS, _MEMBERS], "#d": [group.id]},):
            found = await _seen(stranger, filter_)
            demand(not found, "nothing for a stranger", f"kinds {found} came")


@NIP_29.must("Omitting hidden indicates that anyone can request group metadata events")
async def other_groups_are_seen_by_anybody(trial: Trial) -> None:
    async with _group(trial, ["name", "private, not hidden"], ["private"]) as group:
        stranger = _Person(trial.signer(), await trial.client())
        found = await _seen(stranger, {"kinds": [_METADATA], "#d": [group.id]})
        demand(found == [_METADATA], "the metadata", f"{found} came")


@NIP_29.practice("supported_kinds is a list of kinds the group supports: others are refused")
async def other_kinds_are_refused(trial: Trial) -> None:
    async with _group(trial, ["name", "chat only"], ["supported_kinds", str(_CHAT)]) as group:
        await group.do(_CHAT)
        await group.refused(group.owner, 11, what="a kind that is not supported")


# The timeline


@NIP_29.should(
    "Relays are expected to reject events with references to events not in their database"
)
async def unknown_references_are_refused(trial: Trial) -> None:
    async with _group(trial) as group:
        event = group.event(group.owner, _CHAT, content="the first")
        await group.owner.client.accept(event)
        await group.do(_CHAT, [["previous", event["id"][:8]]])
        await group.refused(
            group.owner, _CHAT, [["previous", "00000000"]], "a reference to nothing"
        )


@NIP_29.should("Relays should prevent late publication (a timestamp from days or even hours ago)")
async def late_publication_is_refused(trial: Trial) -> None:
    async with _group(trial) as group:
        late = group.owner.signer.sign(_CHAT, "late", [["h", group.id]], now() - 2 * 86_400)
        answer = await group.owner.client.offer(late)
        demand(not answer.accepted, "a refusal", f"{shown(answer.message)} came")


@NIP_29.must("update-pin-list: the relay regenerates 39005 to mirror it, in the order")
async def pins_are_mirrored(trial: Trial) -> None:
    async with _group(trial) as group:
        events = [group.event(group.owner, _CHAT, content=str(n)) for n in range(2)]
        await group.owner.client.accept(*events)
        for order in (events, events[::-1], []):
            pins = [["e", event["id"]] for event in order]
            answer = await group.offer(group.owner, _PIN, pins)
            if not answer.accepted:
                raise NotSupported(f"the relay pins nothing, which it need not: {answer.reason}")
            await group.state(
                _PINS,
                lambda tags, pins=pins: [tag[:2] for tag in tags if tag[0] in "ea"] == pins,  # type: ignore[misc]
                f"{len(pins)} pins in their order",
            )


# Subgroups


def _has_subgroups(trial: Trial) -> None:
    told = trial.subject.information.get("nip29")
    if not isinstance(told, dict) or told.get("subgroups") is not True:
        raise NotSupported("the relay does not tell of subgroups (nip29, NIP-11)")


@asynccontextmanager
async def _family(trial: Trial) -> AsyncIterator[tuple[_Group, _Group]]:
    """Create two groups of one owner, the second below the first."""
    _has_subgroups(trial)
    async with _group(trial, ["name", "parent"]) as parent:
        child = _Group(trial, trial.word(), parent.owner)
        await child.do(_CREATE)
        await child.do(_EDIT, [["name", "child"], ["parent", parent.id]])
        yield parent, child
        if not child.owner.client.has_ended:
            await child.owner.client.send("EVENT", child.event(child.owner, _DELETE))


@NIP_29.must("the relay then updates the group's 39000, and the parent's to include a child tag")
async def subgroups_and_parents_name_each_other(trial: Trial) -> None:
    async with _family(trial) as (parent, child):
        await child.state(_METADATA, lambda tags: ["parent", parent.id] in tags, "its parent")
        await parent.state(_METADATA, lambda tags: ["child", child.id] in tags, "its child")
        await child.do(_EDIT, [["name", "a root again"]])
        await child.state(_METADATA, lambda tags: ["parent", parent.id] not in tags, "no parent")
        await parent.state(_METADATA, lambda tags: ["child", child.id] not in tags, "no child")


@NIP_29.must("Relays MUST reject a kind:9002 whose parent value would create a cycle")
async def cycles_are_refused(trial: Trial) -> None:
    async with _family(trial) as (parent, child):
        owner = parent.owner
        await parent.refused(owner, _EDIT, [["parent", parent.id]], "a group below itself")
        tags = [["parent", child.id], ["child", child.id]]
        await parent.refused(owner, _EDIT, tags, "a group below its own child")


@NIP_29.must("If a group's declared parent does not exist on the relay the 9002 MUST be rejected")
async def unknown_parents_are_refused(trial: Trial) -> None:
    _has_subgroups(trial)
    async with _group(trial) as group:
        tags = [["parent", trial.word()]]
        await group.refused(group.owner, _EDIT, tags, "a parent that does not exist")


@NIP_29.must("MUST reject [parent, X] unless the event author is also an admin of X")
async def a_parent_must_agree(trial: Trial) -> None:
    _has_subgroups(trial)
    async with _group(trial) as parent, _group(trial) as child:
        if parent.owner.pubkey == child.owner.pubkey:
            raise NotSupported("only administrators create groups here")
        tags = [["parent", parent.id]]
        await child.refused(child.owner, _EDIT, tags, "somebody else's group as parent")


@NIP_29.must("A kind:9002 MAY carry at most one parent tag")
async def two_parents_are_refused(trial: Trial) -> None:
    async with _family(trial) as (parent, child):
        answer = await child.offer(
            child.owner, _EDIT, [["parent", parent.id], ["parent", child.id]]
        )
        demand(not answer.accepted, "a refusal", f"{shown(answer.message)} came")


@NIP_29.must("9002 edits that do not include all the children as child tags MUST be rejected")
async def children_must_be_named(trial: Trial) -> None:
    async with _family(trial) as (parent, child):
        await parent.refused(parent.owner, _EDIT, [["name", "childless"]], "an edit without child")
        await parent.do(_EDIT, [["name", "with its child"], ["child", child.id]])


@NIP_29.must("the list can be rearranged by the parent's admin, in order")
async def children_are_rearranged(trial: Trial) -> None:
    async with _family(trial) as (parent, first):
        second = _Group(trial, trial.word(), parent.owner)
        await second.do(_CREATE)
        await second.do(_EDIT, [["name", "second"], ["parent", parent.id]])
        for order in ([second.id, first.id], [first.id, second.id]):
            children = [["child", one] for one in order]
            await parent.do(_EDIT, [["name", "parent"], *children])
            await parent.state(
                _METADATA,
                lambda tags, children=children: [t for t in tags if t[0] == "child"] == children,  # type: ignore[misc]
                "the children in this order",
            )
        await second.do(_DELETE)


@NIP_29.must("When a parent is deleted, its remaining children automatically become roots")
async def orphans_become_roots(trial: Trial) -> None:
    async with _family(trial) as (parent, child):
        await parent.do(_DELETE)
        await child.state(
            _METADATA, lambda tags: not [tag for tag in tags if tag[0] == "parent"], "no parent"
        )


@NIP_29.must("Nothing is inherited: being an admin of the parent grants no authority over a child")
async def nothing_is_inherited(trial: Trial) -> None:
    async with _family(trial) as (parent, child):
        admins = await parent.state(_ADMINS, _pubkeys, "an admin")
        role = next(tag[2] for tag in admins["tags"] if tag[0] == "p")
        other = await _person(trial)
        await parent.put(other, role)
        await child.refused(other, _EDIT, [["name", "x"], ["parent", parent.id]], "an edit")
        await child.state(
            _MEMBERS, lambda tags: other.pubkey not in _pubkeys(tags), "no member of the child"
        )
