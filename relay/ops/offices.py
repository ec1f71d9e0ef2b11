"""The fields in which the relay itself acts, as they are configured."""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from relay.ops.config import Config
from relay.policy.groups.office import Groups
from relay.policy.groups.surroundings import Archive
from relay.policy.management import Management, ManagementRules
from relay.policy.membership import Membership, MembershipRules
from relay.policy.reading import DEFAULT_PRIVATE_KINDS, ReadingRule
from relay.policy.records import PrivateRecord, RecordsAreHidden
from relay.policy.ruling import Office
from relay.policy.verdict import RequestCheck
from relay.protocol.identity import Identity
from relay.protocol.information import Announcement, Features
from relay.session.connection import Connection
from relay.session.server import Server

_INVITES: Final = "invite codes"
_BLOCKED: Final = "restricted: this address was blocked"
_NO_MEMBER: Final = "restricted: only members may read here"
_ANNOUNCED: Final = frozenset(["information", "kind"])
"""The lists of records that change what is told of the relay."""


class Appointed(NamedTuple):
    """The offices, and what else they have a say in."""

    offices: tuple[Office, ...]
    membership: Membership
    management: Management
    reading_rules: tuple[ReadingRule, ...]
    request_checks: tuple[RequestCheck, ...]


class Staff:
    """Who is who on this relay: the `People` of `relay.policy.groups`."""

    def __init__(self, membership: Membership, admins: frozenset[str]) -> None:
        self._membership = membership
        self._admins = admins

    def is_admin(self, pubkey: str) -> bool:
        """Tell whether `pubkey` is an administrator's."""
        return pubkey in self._admins

    def is_member(self, pubkey: str) -> bool:
        """Tell whether `pubkey` is a member of the relay; of one without members, everybody is."""
        return not self._membership.rules.enabled or self._membership.is_member(pubkey)


def appoint(config: Config, identity: Identity, archive: Archive) -> Appointed:
    """Return the offices of a relay with this identity, which look things up in `archive`."""
    membership = Membership(
        MembershipRules(
            enabled=config.membership.enabled,
            invites=config.membership.invites,
            invite_lifetime=config.membership.invite_lifetime,
            codes=config.membership.codes,
            writing=config.membership.writing,
            reading=config.membership.reading,
            max_list_bytes=config.limits.max_message_length,
        ),
        secret=identity.derived(_INVITES),
        admins=config.administrators,
        address=config.public_url,
    )
    management = Management(
        ManagementRules(
            admins=config.administrators,
            whitelist=config.management.whitelist,
            reports=config.management.reports,
        ),
        identity.pubkey,
        membership,
    )
    offices: tuple[Office, ...] = (membership, management)
    rules: tuple[ReadingRule, ...] = (RecordsAreHidden(identity.pubkey, config.administrators),)
    if config.groups.enabled:
        staff = Staff(membership, config.administrators)
        groups = Groups(identity.pubkey, config.groups, staff, archive)
        offices += (groups,)
        rules += (groups.reading,)
    return Appointed(
        # members first: management looks at who is one
        offices=offices,
        membership=membership,
        management=management,
        reading_rules=rules,
        request_checks=(membership.judge_request,),
    )


def announcement(config: Config, management: Management) -> Announcement:
    """Return what is told of the relay now: as configured, and as administrators changed it."""
    return Announcement(
        information=msgspec.structs.replace(config.information, **management.description),
        limits=config.limits,
        features=Features(
            names=config.names is not None,
            search=config.search,
            membership=config.membership.enabled,
            management=bool(config.administrators),
            groups=config.groups.enabled,
            private_messages=set(config.private_kinds) >= DEFAULT_PRIVATE_KINDS,
        ),
        own_key=management.own_key,
        restricted_writes=management.restricts_writing,
    )


def reaction(
    management: Management, announce: Callable[[], None], server: Server
) -> Callable[[PrivateRecord], None]:
    """Return what is done at once when a record has changed what holds."""

    def react(record: PrivateRecord) -> None:
        if record.list in _ANNOUNCED:
            announce()
        elif record.list == "address" and record.value is not None:
            server.dismiss(lambda peer: _BLOCKED if management.is_blocked(peer.address) else None)
        elif record.list == "member" and record.value is None:
            server.dismiss(lambda peer: _gone(management.membership, record.item, peer))

    return react


def _gone(membership: Membership, pubkey: str, peer: Connection) -> str | None:
    """Say why a peer may no longer read, if that is because somebody is no member any more."""
    if pubkey not in peer.authenticated or membership.may_read(peer.authenticated):
        return None
    return _NO_MEMBER
