"""Roles, and what each may do. The roles of a group are those of the relay: nobody defines others.

Names that are no roles of this relay are accepted and mean nothing, as NIP-29 allows.
"""

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from relay.policy.groups import kinds


class Role(enum.StrEnum):
    """A privilege within one group, most powerful first."""

    ADMIN = "admin"
    MODERATOR = "moderator"


DESCRIPTIONS: Final[Mapping[Role, str]] = MappingProxyType(
    {
        Role.ADMIN: "may do everything: add and remove users, assign roles, edit the metadata,"
        " delete events, pin events, invite, and delete the group",
        Role.MODERATOR: "may delete events, pin events, and remove users who have no role",
    }
)
"""What 39003 tells about each role."""

_CAPABILITIES: Final[Mapping[Role, frozenset[int]]] = MappingProxyType(
    {
        Role.ADMIN: kinds.MODERATION,
        Role.MODERATOR: frozenset({kinds.REMOVE_USER, kinds.DELETE_EVENT, kinds.UPDATE_PIN_LIST}),
    }
)


def known_roles(names: Iterable[str]) -> tuple[Role, ...]:
    """Return the roles among `names`, each once, most powerful first."""
    given = frozenset(names)
    return tuple([role for role in Role if role in given])


def may(roles: Iterable[Role], kind: int) -> bool:
    """Tell whether somebody with these roles may send moderation events of `kind`."""
    return any(kind in _CAPABILITIES[role] for role in roles)
