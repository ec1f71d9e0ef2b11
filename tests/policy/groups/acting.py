"""A relay in miniature: its groups, a plain list of what it stores, and people who write to it.

It does what the steward does, without a task: ask for the ruling, sign the drafts, remove what is
to be removed, store, note. Events have true ids and no signatures; rules look at neither.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from relay.policy.groups.office import Groups
from relay.policy.groups.settings import GroupSettings
from relay.policy.ruling import Draft, Ruling
from relay.protocol.event import Event, KindClass, computed_id, identifier, kind_class

NOW: Final = 1_800_000_000
SETTINGS: Final = GroupSettings()


def key(name: str) -> str:
    """Return a public key for somebody."""
    return sha256(name.encode()).hexdigest()


SELF: Final = key("the relay")
OPERATOR: Final = key("operator")
REGULAR: Final = key("regular")
ANN, BOB, CARL, DORA = map(key, ("ann", "bob", "carl", "dora"))


def event(
    pubkey: str,
    kind: int,
    tags: Iterable[Sequence[str]] = (),
    at: int = NOW,
    content: str = "",
) -> Event:
    unsigned = Event("0" * 64, pubkey, at, kind, tuple(map(tuple, tags)), content, "0" * 128)
    return msgspec.structs.replace(unsigned, id=computed_id(unsigned))


class Visitor:
    """Who asks. Groups judge an event by its author, so this does not matter for writing."""

    address = "192.0.2.1"
    authenticated: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()


class Staff:
    """The relay's own people."""

    def is_admin(self, pubkey: str) -> bool:
        return pubkey == OPERATOR

    def is_member(self, pubkey: str) -> bool:
        return pubkey == REGULAR


class Relay:
    """`ask` and `write` are what peers do; the rest is for looking."""

    def __init__(self, settings: GroupSettings = SETTINGS) -> None:
        self.settings = settings
        self.stored: list[Event] = []
        self.buried: set[str] = set()
        self.now = NOW
        self.groups = Groups(SELF, settings, Staff(), self)

    # --- the archive

    def find(self, event_id: str) -> Event | None:
        return next((one for one in self.stored if one.id == event_id), None)

    def holds_id(self, prefix: str) -> bool:
        return any(one.id.startswith(prefix) for one in self.stored)

    def has_events_of(self, group_id: str) -> bool:
        return any(("h", group_id) in [tag[:2] for tag in one.tags] for one in self.stored)

    # --- what peers do

    def ask(
        self, pubkey: str, kind: int, group_id: str, *tags: Sequence[str], at: int | None = None
    ) -> str:
        """Send something that is ruled on; return why it was refused, or nothing."""
        asked = event(pubkey, kind, [("h", group_id), *tags], self.now if at is None else at)
        return self.decide(asked).reason

    def decide(self, asked: Event) -> Ruling:
        assert self.groups.check(asked, Visitor(), self.now) is None, "the ruling alone decides"
        ruling = self.groups.rule(asked, Visitor(), self.now)
        if ruling.accepted:
            assert not ruling.reason
            self.carry_out(asked, ruling)
        else:
            assert ": " in ruling.reason
            assert (ruling.drafts, ruling.erase, ruling.bury) == ((), (), ())
        self.now += 1
        return ruling

    def carry_out(self, asked: Event, ruling: Ruling) -> None:
        self.buried |= set(ruling.bury)
        self.stored = [
            one
            for one in self.stored
            if one.id not in self.buried and not any(f.matches(one) for f in ruling.erase)
        ]
        if ruling.keep:
            self.stored.append(asked)
        for draft in ruling.drafts:
            self._store(self._signed(draft))

    def _signed(self, draft: Draft) -> Event:
        return event(SELF, draft.kind, draft.tags, self.now, draft.content)

    def _store(self, own: Event) -> None:
        if kind_class(own.kind) is KindClass.ADDRESSABLE:
            place = (own.kind, identifier(own))
            self.stored = [
                one
                for one in self.stored
                if one.pubkey != SELF or (one.kind, identifier(one)) != place
            ]
        self.stored.append(own)
        self.groups.note(own)

    def write(self, written: Event) -> str:
        """Publish an ordinary event; return why it was refused, or nothing."""
        verdict = self.groups.check(written, Visitor(), self.now)
        if verdict is not None:
            assert ": " in verdict.reason
            return verdict.reason
        self.stored.append(written)
        return ""

    def chat(self, pubkey: str, group_id: str, *tags: Sequence[str], kind: int = 9) -> str:
        return self.write(event(pubkey, kind, [("h", group_id), *tags], self.now))

    # --- what is to be seen

    def document(self, kind: int, group_id: str) -> list[list[str]] | None:
        """Return the tags of the relay's document after its `d` tag; `None` where there is none."""
        found = [
            one
            for one in self.stored
            if one.kind == kind and one.pubkey == SELF and identifier(one) == group_id
        ]
        assert len(found) <= 1, "a single instance of each, or none"
        return [list(tag) for tag in found[0].tags[1:]] if found else None

    def issued(self, kind: int) -> list[list[list[str]]]:
        """Return the tags of the regular events of this kind that the relay itself has signed."""
        return [
            [list(tag) for tag in one.tags]
            for one in self.stored
            if one.kind == kind and one.pubkey == SELF
        ]

    def members(self, group_id: str) -> list[str]:
        return [tag[1] for tag in self.document(39002, group_id) or []]

    def last(self) -> Event:
        """Return the last event that was not the relay's own."""
        return next(one for one in reversed(self.stored) if one.pubkey != SELF)


def with_group(*tags: Sequence[str], settings: GroupSettings = SETTINGS) -> Relay:
    """Return a relay with a group `tea`: Ann its admin, Bob a moderator, Carl a member."""
    relay = Relay(settings)
    assert relay.ask(ANN, 9007, "tea", *tags) == ""
    assert relay.ask(ANN, 9000, "tea", ["p", BOB, "moderator"], ["p", CARL]) == ""
    return relay
