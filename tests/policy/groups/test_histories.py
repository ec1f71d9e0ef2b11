"""Random histories: what peers ask in any order, against the plain rules, and after a restart."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.policy.groups.office import Groups
from relay.policy.groups.state import Group
from relay.protocol.event import Event
from tests.policy.groups.acting import (
    ANN,
    BOB,
    CARL,
    OPERATOR,
    SELF,
    SETTINGS,
    Relay,
    Staff,
    Visitor,
    event,
)
from tests.policy.groups.plain import FLAGS, Plain

GROUPS = ("a", "b", "c", "d")
IDS = [f"{number:064x}" for number in range(3)]
CODES = ("x", "y")

people = st.sampled_from([ANN, ANN, ANN, BOB, CARL, OPERATOR])
group_ids = st.sampled_from(GROUPS)
some_groups = st.lists(group_ids, max_size=3, unique=True)

users = st.lists(
    st.builds(
        lambda pubkey, roles: ["p", pubkey, *roles],
        st.sampled_from([ANN, BOB, CARL]),
        st.sampled_from([[], [], ["admin"], ["moderator"], ["gardener"], ["moderator", "admin"]]),
    ),
    max_size=2,
    unique_by=lambda tag: tag[1],
)
flags = st.lists(st.sampled_from(FLAGS), max_size=2, unique=True).map(
    lambda names: [[name] for name in names]
)
metadata = st.builds(
    lambda name, flags, kinds, parent: [
        *([["name", name]] if name else []),
        *flags,
        *([["supported_kinds", *kinds]] if kinds is not None else []),
        *([["parent", parent]] if parent else []),
    ],
    st.sampled_from(["", "Tea"]),
    flags,
    st.sampled_from([None, None, [], ["9"], ["1"]]),
    st.sampled_from([None, *GROUPS]),
)
codes = st.lists(st.sampled_from(CODES), max_size=2).map(lambda c: [["code", code] for code in c])
pins = st.lists(st.sampled_from(IDS), max_size=3).map(lambda ids: [["e", one] for one in ids])

# Which children there are, and which events, only the history knows: so an edit says whether it
# names them rightly, and a deletion the place of its targets among what is stored.
actions = st.one_of(
    st.tuples(st.just(9007), people, group_ids, metadata),
    st.tuples(st.just(9000), people, group_ids, users),
    st.tuples(st.just(9001), people, group_ids, users),
    st.tuples(
        st.just(9002),
        people,
        group_ids,
        st.tuples(metadata, st.one_of(st.just("all"), st.just("reversed"), some_groups)),
    ),
    st.tuples(
        st.just(9005), people, group_ids, st.lists(st.integers(0, 30), min_size=0, max_size=2)
    ),
    st.tuples(st.just(9008), people, st.sampled_from(["b", "c", "d"]), st.just([])),
    st.tuples(st.just(9009), people, group_ids, codes),
    st.tuples(st.just(9010), people, group_ids, pins),
    st.tuples(st.just(9021), people, group_ids, codes),
    st.tuples(st.just(9022), people, group_ids, st.just([])),
    st.tuples(
        st.just(9), people, group_ids, st.lists(group_ids.map(lambda g: ["h", g]), max_size=1)
    ),
)


def tags_of(action: tuple[Any, ...], plain: Plain) -> list[list[str]]:
    kind, _, group_id, given_tags = action
    if kind == 9002:
        wanted, children = given_tags
        known = plain.groups.get(group_id, {"children": []})["children"]
        if children == "all":
            children = known
        elif children == "reversed":
            children = known[::-1]
        return [*wanted, *[["child", child] for child in children]]
    if kind == 9005:
        stored = [*plain.written, IDS[0]]
        return [["e", stored[place % len(stored)]] for place in given_tags]
    return list(given_tags)


def played(history: Sequence[tuple[Any, ...]]) -> tuple[Relay, Plain]:
    """Play a history to both, and compare them at each step."""
    relay, plain = Relay(), Plain()
    for action in history:
        kind, who, group_id = action[:3]
        one = event(who, kind, [["h", group_id], *tags_of(action, plain)], relay.now)
        if kind == 9:
            accepted = relay.write(one) == ""
            relay.now += 1
        else:
            accepted = relay.decide(one).accepted
        assert accepted == plain.take(one), (one, relay.groups.rule(one, Visitor(), relay.now))
        assert sorted(one.id for one in relay.stored if one.pubkey != SELF) == sorted(plain.written)
        compare(relay, plain)
    return relay, plain


def compare(relay: Relay, plain: Plain) -> None:
    for name in GROUPS:
        if name not in plain.groups:
            assert relay.groups.directory.get(name) is None
            assert [relay.document(kind, name) for kind in range(39000, 39006)] == [None] * 6
            continue
        group = plain.groups[name]
        assert relay.document(39000, name) == plain.document(name)
        assert relay.document(39001, name) == [
            ["p", pubkey, *sorted(roles)] for pubkey, roles in group["roles"].items()
        ]
        assert relay.members(name) == group["members"]
        assert relay.document(39005, name) in (None, [["e", one] for one in group["pins"]])
        live = relay.groups.directory.get(name)
        assert live is not None
        assert {code: one.event_id for code, one in live.invites.items()} == group["invites"]


def view(groups: Groups) -> dict[str, object]:
    """Return everything that is known of the groups, in a form that can be compared."""
    directory = groups.directory

    def of(group: Group) -> object:
        parts = [group.metadata, group.admins, list(group.admins), list(group.members)]
        return [*parts, group.pins, group.invites, group.versions]

    return {
        **{group.id: of(group) for group in directory.groups.values()},
        "private": directory.private,
        "hidden": directory.hidden,
        "filters": set(groups.reading.filters),
    }


def restarted(relay: Relay, stored: Sequence[Event]) -> Groups:
    groups = Groups(SELF, SETTINGS, Staff(), relay)
    for one in stored:
        groups.note(one)
    return groups


@settings(max_examples=40, deadline=None)
@given(st.lists(actions, min_size=10, max_size=30), st.randoms(use_true_random=False))
def test_any_history_follows_the_plain_rules_and_survives_a_restart(
    history: list[tuple[Any, ...]], chance: Any
) -> None:
    relay, _ = played(history)
    stored = list(relay.stored)
    live = view(relay.groups)
    assert view(restarted(relay, sorted(stored, key=lambda one: one.created_at))) == live
    chance.shuffle(stored)
    assert view(restarted(relay, stored)) == live, "in whatever order they are found"
    for one in stored:
        relay.groups.note(one)
    assert view(relay.groups) == live, "what comes twice changes nothing"


FLOURISHING: list[tuple[Any, ...]] = [
    (9007, ANN, "a", [["name", "Tea"], ["private"]]),
    (9007, ANN, "b", [["parent", "a"]]),
    (9007, ANN, "c", [["parent", "a"], ["hidden"]]),
    (9000, ANN, "a", [["p", BOB, "moderator"], ["p", CARL]]),
    (9009, ANN, "a", [["code", "x"]]),
    (9010, BOB, "a", [["e", IDS[0]]]),
    (9, CARL, "a", []),
]


@settings(max_examples=60, deadline=None)
@given(st.lists(actions, min_size=15, max_size=40), st.randoms(use_true_random=False))
def test_any_history_of_groups_that_flourish(history: list[tuple[Any, ...]], chance: Any) -> None:
    relay, plain = played([*FLOURISHING, *history])
    assert plain.written
    stored = list(relay.stored)
    chance.shuffle(stored)
    assert view(restarted(relay, stored)) == view(relay.groups)
