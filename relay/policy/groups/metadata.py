"""A group's metadata: what 9002 asks for and 39000 shows.

An edit carries all of it: a field or a flag that is not in it is gone (NIP-29: "all the fields of
group-metadata", and the absence of a flag has a meaning of its own). Tags that mean nothing here
are passed over; of a field that is given twice the first counts.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from relay.policy.groups.refusal import Refused
from relay.protocol.event import MAX_KIND, Tag

LONGEST: Final = {"name": 256, "picture": 2_048, "banner": 2_048, "about": 4_096}
"""Characters in each field, in the order in which they are shown."""
_FLAGS: Final = ("private", "restricted", "hidden", "closed")
MOST_SUPPORTED_KINDS: Final = 256
"""Kinds that `supported_kinds` may name."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What the group is called, and its rules. Empty texts and false flags are not shown."""

    name: str = ""
    picture: str = ""
    banner: str = ""
    about: str = ""
    private: bool = False
    """Only members read its events."""
    restricted: bool = False
    """Only members write to it."""
    hidden: bool = False
    """Only members see its 3900x events."""
    closed: bool = False
    """Nobody joins without an invite code."""
    supported_kinds: tuple[int, ...] | None = None
    """The kinds that may be written; `None`: all."""
    parent: str | None = None
    """The group above it."""
    children: tuple[str, ...] = ()
    """The groups under it, in the order that its admins want."""

    def tags(self) -> tuple[Tag, ...]:
        """Return what 39000 says, after its `d` tag."""
        tags: list[Tag] = [
            (field, value) for field in LONGEST if (value := str(getattr(self, field)))
        ]
        tags += [(flag,) for flag in _FLAGS if getattr(self, flag)]
        if self.supported_kinds is not None:
            tags.append(("supported_kinds", *map(str, self.supported_kinds)))
        if self.parent is not None:
            tags.append(("parent", self.parent))
        tags += [("child", child) for child in self.children]
        return tuple(tags)


def read_metadata(tags: Iterable[Tag]) -> Metadata:
    """Return what the tags of an edit, or of a 39000, say. What is malformed is passed over."""
    texts: dict[str, str] = {}
    flags: set[str] = set()
    supported_kinds: tuple[int, ...] | None = None
    parent: str | None = None
    children: dict[str, None] = {}
    for tag in tags:
        name, value = tag[0], tag[1] if len(tag) > 1 else ""
        if name in LONGEST:
            texts.setdefault(name, value)
        elif name in _FLAGS:
            flags.add(name)
        elif name == "supported_kinds" and supported_kinds is None:
            supported_kinds = tuple(
                dict.fromkeys([int(kind) for kind in tag[1:] if _is_kind(kind)])
            )
        elif name == "parent" and parent is None:
            parent = value
        elif name == "child":
            children[value] = None
    return Metadata(
        name=texts.get("name", ""),
        picture=texts.get("picture", ""),
        banner=texts.get("banner", ""),
        about=texts.get("about", ""),
        private="private" in flags,
        restricted="restricted" in flags,
        hidden="hidden" in flags,
        closed="closed" in flags,
        supported_kinds=supported_kinds,
        parent=parent,
        children=tuple(children),
    )


def demand_valid(tags: Iterable[Tag]) -> None:
    """Refuse an edit whose tags are too long, malformed, or ask for what is not to be had here.

    Raises `Refused`.
    """
    parents = 0
    children: set[str] = set()
    for tag in tags:
        name, value = tag[0], tag[1] if len(tag) > 1 else ""
        if name in LONGEST and len(value) > LONGEST[name]:
            raise Refused(f"invalid: {name} may have at most {LONGEST[name]} characters")
        if name == "supported_kinds":
            if len(tag) - 1 > MOST_SUPPORTED_KINDS:
                raise Refused(f"invalid: at most {MOST_SUPPORTED_KINDS} kinds can be supported")
            if not all(map(_is_kind, tag[1:])):
                raise Refused("invalid: supported_kinds must hold numbers from 0 to 65535")
        elif name == "livekit":
            raise Refused("unsupported: this relay has no server for live audio and video")
        elif name == "parent":
            parents += 1
        elif name == "child":
            if value in children:
                raise Refused("invalid: a child is named twice")
            children.add(value)
    if parents > 1:
        raise Refused("invalid: a group has at most one parent")


def _is_kind(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= MAX_KIND
