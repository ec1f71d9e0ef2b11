"""Rulings: what the relay itself does in answer to what somebody asks of it.

Most events are only accepted or refused. In some fields the relay acts by itself: it keeps the
lists of a group's members, admits members of its own, carries out what an administrator decides.
Such a field is an `Office`. It is asked about an event and gives a `Ruling`: the answer, and the
events that the relay is to sign with its own key, the removals among them.

An office is pure. Its state is in the log: in events signed by the relay's own key, which survive a
restart, reach every process by the log, and are found again at the start. What an office has in
memory is a view of these, kept by `note`; `rule` changes nothing. Whoever asks (the steward, in
`relay.session.steward`) signs the drafts and commits all of it in one transaction, on condition
that the versions that the office has seen are still the current ones, and asks again otherwise.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from relay.policy.verdict import Client, EventCheck, Policy, Rejection, Verdict
from relay.protocol.event import KIND_VANISH, REMOVING_KINDS, Event
from relay.protocol.filters import Filter

_OWN: Final = Rejection("blocked: events by the relay's own key are made by the relay alone")


class Draft(msgspec.Struct, frozen=True, gc=False):
    """An event that the relay will sign with its own key. Its time is set when it is signed."""

    kind: int
    tags: tuple[tuple[str, ...], ...] = ()
    content: str = ""


class Ruling(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What comes of something that the relay was asked."""

    accepted: bool
    reason: str = ""
    """What the OK says: a prefix of the protocol, a colon, plain words; may be empty if accepted.
    """
    keep: bool = True
    """Whether the event asked about is itself stored and published, if it was accepted. One of an
    ephemeral kind is never stored."""
    drafts: tuple[Draft, ...] = ()
    """The relay's own events that come of it, in order, committed in one transaction with it."""
    erase: tuple[Filter, ...] = ()
    """What is removed in that transaction, whoever wrote it: whatever matches one of these."""
    bury: tuple[str, ...] = ()
    """Ids of events that are removed, and refused from now on, whoever wrote them."""


class Office(Protocol):
    """One field in which the relay itself acts."""

    @property
    def kinds(self) -> frozenset[int]:
        """The kinds of the events from peers that it rules on."""
        ...

    @property
    def own_kinds(self) -> frozenset[int]:
        """The kinds of the relay's own events in which it keeps its state."""
        ...

    @property
    def noted_kinds(self) -> frozenset[int]:
        """The kinds of anybody's stored events that it wants to be told of by `note` as well."""
        ...

    def rule(self, event: Event, client: Client, now: int) -> Ruling:
        """Decide on an event of `kinds`, whose id and signature are good. Changes nothing.

        `now` is in Unix seconds.
        """
        ...

    def note(self, event: Event) -> None:
        """Take an event into the view: it was committed, by this process or by another.

        Called for the relay's own events of `own_kinds` and for anybody's of `noted_kinds`, in the
        order of the log; and once for each that is stored when the relay starts, oldest first by
        `created_at`. The same event may come twice.
        """
        ...

    @property
    def checked_kinds(self) -> frozenset[int] | None:
        """The kinds of the events that it wants to judge by `check`; `None`: all."""
        ...

    def check(self, event: Event, client: Client, now: int) -> Verdict:
        """Judge any event: may it be written? Its id and signature are not verified yet.

        On the way of every event of `checked_kinds`: it must cost next to nothing where it does not
        concern it.
        """
        ...


def with_offices(policy: Policy, pubkey: str, offices: Sequence[Office]) -> Policy:
    """Return `policy` as that of a relay with these offices, whose own key is `pubkey`.

    Nobody else speaks for the relay. Whoever holds its key may use it for what no office keeps,
    once authenticated, but not to remove anything. Of everything else the offices judge, each what
    it wants to; but a request to vanish is none of theirs: it has to be followed whatever its
    author's status is (NIP-62).
    """
    own_kinds = frozenset[int]().union(*[office.own_kinds for office in offices])

    def not_for_the_relay(event: Event, client: Client, _now: int) -> Verdict:
        if event.pubkey != pubkey:
            return None
        kept = event.kind in own_kinds or event.kind in REMOVING_KINDS
        return _OWN if kept or pubkey not in client.authenticated else None

    def checks_of(kind: int | None) -> tuple[EventCheck, ...]:
        checks = policy.event_checks
        if kind is not None:
            checks = policy.checks_of_kinds.get(kind, checks)
        asked = [
            office.check
            for office in offices
            if kind != KIND_VANISH
            and (office.checked_kinds is None or kind in office.checked_kinds)
        ]
        return (*checks, not_for_the_relay, *asked)

    special = {KIND_VANISH, *policy.checks_of_kinds}
    special.update(*[office.checked_kinds or () for office in offices])
    return Policy(
        checks_of(None), policy.request_checks, {kind: checks_of(kind) for kind in special}
    )
