"""The rules of NIP-29 once more, as plainly as they can be said: the oracle of the histories.

No documents, no drafts, no views: a dictionary for each group, changed in place. It knows whether
an event is accepted and what the group is then, but nothing of reasons and limits.
"""

from typing import Any

from relay.protocol.event import Event
from tests.policy.groups.acting import OPERATOR

MODERATORS_MAY = (9001, 9005, 9010)
FLAGS = ("private", "restricted", "hidden", "closed")

Group = dict[str, Any]


def values(event: Event, name: str) -> list[str]:
    return [tag[1] for tag in event.tags if tag[0] == name]


class Plain:
    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.written: dict[str, Event] = {}
        """Everything by peers that is stored, by id."""

    def take(self, event: Event) -> bool:
        """Take an event by a peer; tell whether it is accepted."""
        accepted = self.decide(event) if 9000 <= event.kind <= 9022 else self.may_write(event)
        if accepted:
            self.written[event.id] = event
        return accepted

    def may_write(self, event: Event) -> bool:
        for name in values(event, "h"):
            group = self.groups.get(name)
            if group is None:
                continue
            inside = event.pubkey in group["members"] or event.pubkey == OPERATOR
            if "restricted" in group["flags"] and not inside:
                return False
            if group["kinds"] is not None and str(event.kind) not in group["kinds"]:
                return False
        return True

    def decide(self, event: Event) -> bool:
        [name] = values(event, "h")
        group, who = self.groups.get(name), event.pubkey
        if event.kind == 9007:
            return group is None and self.create(name, event)
        if group is None:
            return False
        if event.kind == 9021:
            if who in group["members"]:
                return False
            codes = values(event, "code")
            if "closed" in group["flags"] and not (codes and codes[0] in group["invites"]):
                return False
            group["members"].append(who)
            return True
        if event.kind == 9022:
            if who not in group["members"]:
                return False
            group["members"].remove(who)
            group["roles"].pop(who, None)
            return True
        roles = {"admin"} if who == OPERATOR else group["roles"].get(who, set())
        if "admin" in roles or ("moderator" in roles and event.kind in MODERATORS_MAY):
            return bool(getattr(self, f"do_{event.kind}")(name, group, event, roles))
        return False

    def create(self, name: str, event: Event) -> bool:
        taken = any(name in values(one, "h") for one in self.written.values())
        if taken and event.pubkey != OPERATOR:
            return False
        group = {
            "roles": {event.pubkey: {"admin"}},
            "members": [event.pubkey],
            "pins": [],
            "invites": {},
            "parent": None,
            "children": [],
        }
        self.groups[name] = group
        if self.do_9002(name, group, event, {"admin"}):
            return True
        del self.groups[name]
        return False

    def do_9000(self, _name: str, group: Group, event: Event, _roles: set[str]) -> bool:
        wanted = {tag[1]: set(tag[2:]) & {"admin", "moderator"} for tag in event.tags[1:]}
        after = {pubkey: roles for pubkey, roles in {**group["roles"], **wanted}.items() if roles}
        if not wanted or self.loses_its_admins(group, after, event):
            return False
        group["roles"] = after
        group["members"] += [pubkey for pubkey in wanted if pubkey not in group["members"]]
        return True

    def do_9001(self, _name: str, group: Group, event: Event, roles: set[str]) -> bool:
        gone = values(event, "p")
        after = {pubkey: has for pubkey, has in group["roles"].items() if pubkey not in gone}
        if not gone or not set(gone) <= set(group["members"]):
            return False
        if after != group["roles"] and "admin" not in roles:
            return False
        if self.loses_its_admins(group, after, event):
            return False
        group["roles"] = after
        group["members"] = [one for one in group["members"] if one not in gone]
        return True

    def loses_its_admins(self, group: Group, after: dict[str, set[str]], event: Event) -> bool:
        if event.pubkey == OPERATOR or not any("admin" in has for has in group["roles"].values()):
            return False
        return not any("admin" in has for has in after.values())

    def do_9002(self, name: str, group: Group, event: Event, _roles: set[str]) -> bool:
        children = values(event, "child")
        if sorted(children) != sorted(group["children"]) or len(values(event, "parent")) > 1:
            return False
        parent = next(iter(values(event, "parent")), None)
        if parent is not None:
            above = self.groups.get(parent)
            if above is None or "admin" not in above["roles"].get(event.pubkey, set()):
                return False
            place: str | None = parent
            while place is not None:
                if place == name:
                    return False
                place = self.groups[place]["parent"]
        if parent != group["parent"]:
            if group["parent"] is not None:
                self.groups[group["parent"]]["children"].remove(name)
            if parent is not None:
                self.groups[parent]["children"].append(name)
        group["parent"], group["children"] = parent, children
        group["name"] = next(iter(values(event, "name")), "")
        group["flags"] = {tag[0] for tag in event.tags if tag[0] in FLAGS}
        kinds = [tag[1:] for tag in event.tags if tag[0] == "supported_kinds"]
        group["kinds"] = list(kinds[0]) if kinds else None
        return True

    def do_9005(self, name: str, group: Group, event: Event, _roles: set[str]) -> bool:
        named = [self.written.get(one) for one in values(event, "e")]
        for one in named:
            if one is None or name not in values(one, "h"):
                return False
            if 9000 <= one.kind <= 9020 and one.kind != 9009:
                return False
        for gone in values(event, "e"):
            self.written.pop(gone, None)
            group["invites"] = {c: by for c, by in group["invites"].items() if by != gone}
        return bool(named)

    def do_9008(self, name: str, group: Group, _event: Event, _roles: set[str]) -> bool:
        del self.groups[name]
        if group["parent"] is not None:
            self.groups[group["parent"]]["children"].remove(name)
        for child in group["children"]:
            self.groups[child]["parent"] = None
        self.written = {
            one.id: one for one in self.written.values() if name not in values(one, "h")
        }
        return True

    def do_9009(self, _name: str, group: Group, event: Event, _roles: set[str]) -> bool:
        codes = values(event, "code")
        if len(codes) != 1 or codes[0] in group["invites"]:
            return False
        group["invites"][codes[0]] = event.id
        return True

    def do_9010(self, _name: str, group: Group, event: Event, _roles: set[str]) -> bool:
        pins = values(event, "e")
        if len(set(pins)) < len(pins):
            return False
        group["pins"] = pins
        return True

    def document(self, name: str) -> list[list[str]]:
        """Return what 39000 says of a group, after its `d` tag."""
        group = self.groups[name]
        tags = [["name", group["name"]]] if group["name"] else []
        tags += [[flag] for flag in FLAGS if flag in group["flags"]]
        if group["kinds"] is not None:
            tags.append(["supported_kinds", *group["kinds"]])
        if group["parent"] is not None:
            tags.append(["parent", group["parent"]])
        return tags + [["child", child] for child in group["children"]]
