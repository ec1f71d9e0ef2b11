"""The tree of groups: who may be under whom, and whose metadata changes with it (NIP-29).

Two documents tell of each bond, the child's `parent` and the parent's `child`; they are written in
one transaction. Nothing is inherited along it.
"""

from collections.abc import Iterator

import msgspec

from relay.policy.groups.documents import metadata_document
from relay.policy.groups.metadata import Metadata
from relay.policy.groups.refusal import Refused
from relay.policy.groups.roles import Role
from relay.policy.groups.state import Directory, Group
from relay.policy.groups.surroundings import Surroundings
from relay.policy.ruling import Draft
from relay.protocol.filters import quoted


def demand_parent(around: Surroundings, group_id: str, wanted: Metadata, author: str) -> None:
    """Refuse a parent that may not be one for this group. Raises `Refused`.

    The author must have the role in the parent's own 39001, also where the parent stays the same:
    NIP-29 makes no exception, not even for those who are admins everywhere.
    """
    if wanted.parent is None:
        return
    parent = around.directory.get(wanted.parent)
    if parent is None:
        raise Refused(f"invalid: there is no group {quoted(wanted.parent)} to be the parent")
    if any(above.id == group_id for above in _upwards(around.directory, parent)):
        raise Refused("invalid: a group cannot be below itself")
    if Role.ADMIN not in parent.admins.get(author, ()):
        raise Refused(f"restricted: only an admin of {quoted(parent.id)} can make it a parent")
    children = parent.metadata.children
    if group_id not in children and len(children) >= around.settings.max_subgroups:
        raise Refused(f"restricted: {quoted(parent.id)} has {len(children)} subgroups, the most")


def demand_all_children(present: Metadata, wanted: Metadata) -> None:
    """Refuse a list that is not that of the group's children, in any order. Raises `Refused`."""
    if frozenset(present.children) != frozenset(wanted.children):
        raise Refused("invalid: an edit must name all the group's children as child tags, no other")


def move(directory: Directory, group_id: str, before: str | None, after: str | None) -> list[Draft]:
    """Return the metadata of the parents that a group leaves and joins."""
    if before == after:
        return []
    drafts: list[Draft] = []
    left = None if before is None else directory.get(before)
    if left is not None:
        children = tuple([child for child in left.metadata.children if child != group_id])
        drafts.append(_with(left, children=children))
    joined = None if after is None else directory.get(after)
    if joined is not None:
        drafts.append(_with(joined, children=(*joined.metadata.children, group_id)))
    return drafts


def release_children(directory: Directory, group: Group) -> list[Draft]:
    """Return the metadata of the children of a group that is deleted: they become roots."""
    children = [directory.get(child) for child in group.metadata.children]
    return [_with(child, parent=None) for child in children if child is not None]


def _with(group: Group, **changes: object) -> Draft:
    return metadata_document(group.id, msgspec.structs.replace(group.metadata, **changes))


def _upwards(directory: Directory, group: Group) -> Iterator[Group]:
    """Yield `group` and what is above it, up to its root."""
    seen: set[str] = set()
    above: Group | None = group
    while above is not None and above.id not in seen:
        yield above
        seen.add(above.id)
        parent = above.metadata.parent
        above = None if parent is None else directory.get(parent)
