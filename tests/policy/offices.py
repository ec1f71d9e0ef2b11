"""Offices as a test drives them: rulings are carried out by hand, and signed by a test's key."""

from collections.abc import Iterable
from typing import Final

from relay.policy.management import Management, ManagementRules
from relay.policy.management_methods import Call, Subject, decide
from relay.policy.membership import Membership, MembershipRules
from relay.policy.ruling import Draft, Office, Ruling, with_offices
from relay.policy.verdict import Policy
from relay.protocol.event import Event, KindClass, identifier, kind_class
from relay.protocol.filters import matches_any
from tests.corpus import Author

NOW: Final = 1_700_000_000
RELAY: Final = Author("the relay itself")
ADMIN: Final = Author("administrator")
SECRET: Final = b"a secret of the relay's"


class Somebody:
    """A client that has authenticated as these authors."""

    def __init__(self, *authenticated: Author) -> None:
        self.address = "192.0.2.1"
        self.authenticated = frozenset([one.pubkey for one in authenticated])
        self.hosts = frozenset(["relay.example"])


class Desk:
    """Both offices, and the log of what they have decided."""

    def __init__(
        self,
        members: MembershipRules | None = None,
        rules: ManagementRules | None = None,
        log: Iterable[Event] = (),
    ) -> None:
        admins = frozenset([ADMIN.pubkey])
        self._members_rules = members or MembershipRules(enabled=True)
        self._rules = rules or ManagementRules(admins=admins)
        self.membership = Membership(
            self._members_rules,
            secret=SECRET,
            admins=self._rules.admins,
            address="wss://relay.example",
            random=self._random,
        )
        self.management = Management(self._rules, RELAY.pubkey, self.membership)
        self.now = NOW
        self.log: list[Event] = []
        self._calls = 0
        self._drawn = 0
        for event in log:
            self.note(event)

    def _random(self, size: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(size, "big")

    def note(self, event: Event) -> None:
        self.log.append(event)
        self.membership.note(event)
        self.management.note(event)

    def carry_out(self, ruling: Ruling) -> Ruling:
        """Sign and note the drafts, as the steward does; a newer version is later."""
        assert ruling.accepted or not ruling.drafts
        if ruling.erase:
            self.log = [event for event in self.log if not matches_any(ruling.erase, event)]
        addresses = [address_of(draft) for draft in ruling.drafts]
        replaceable = [one for one in addresses if one is not None]
        assert len(set(replaceable)) == len(replaceable), "two versions in one transaction"
        for draft in ruling.drafts:
            self.note(self._signed(draft))
        return ruling

    def call(self, method: str, *params: object, address: str = "192.0.2.9") -> Ruling:
        """Decide as the administrator and carry it out. Raises `InvalidCall`."""
        self._calls += 1
        call = Call(
            admin=ADMIN.pubkey,
            address=address,
            method=method,
            params=params,
            call_id=f"{self._calls:032x}",
        )
        return self.carry_out(decide(self.management, call, Subject(), self.now))

    def ask(self, event: Event) -> Ruling:
        return self.carry_out(self.membership.rule(event, Somebody(), self.now))

    def judge(self, event: Event, *authenticated: Author) -> str | None:
        offices: list[Office] = [self.membership, self.management]
        policy = with_offices(Policy(), RELAY.pubkey, offices)
        verdict = policy.judge_event(event, Somebody(*authenticated), self.now)
        return None if verdict is None else verdict.reason

    def published(self, kind: int) -> list[Event]:
        """Return the current events of a kind."""
        current: dict[str, Event] = {}
        for event in self.log:
            if event.kind == kind:
                single = kind_class(kind) is KindClass.REGULAR
                current[event.id if single else identifier(event)] = event
        return list(current.values())

    def restarted(self) -> "Desk":
        """Return offices that know nothing but what is stored, oldest first."""
        current: dict[object, Event] = {}
        for event in self.log:
            current[address_of(event) or event.id] = event
        # sorted is stable, and the store gives those of one second in no order that matters
        stored = sorted(current.values(), key=lambda event: (event.created_at, event.id))
        return Desk(self._members_rules, self._rules, stored)

    def _signed(self, draft: Draft) -> Event:
        address = address_of(draft)
        versions = [
            event.created_at + 1
            for event in self.log
            if address is not None and address_of(event) == address
        ]
        return RELAY.sign(draft.kind, draft.content, draft.tags, max([self.now, *versions]))


def address_of(event: Event | Draft) -> tuple[int, str] | None:
    if kind_class(event.kind) is KindClass.REGULAR:
        return None
    names = [tag[1] for tag in event.tags if tag[0] == "d"]
    return event.kind, names[0] if names else ""
