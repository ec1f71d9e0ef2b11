"""NIP-29: edit-metadata (9002) and what 39000 shows of it."""

import pytest

from relay.policy.groups.metadata import Metadata, demand_valid, read_metadata
from tests.policy.groups.acting import ANN, with_group

EVERYTHING = [
    ["name", "Pizza Lovers"],
    ["picture", "https://pizza.com/pizza.png"],
    ["banner", "https://pizza.com/banner.png"],
    ["about", "a group for people who love pizza"],
    ["private"],
    ["restricted"],
    ["hidden"],
    ["closed"],
    ["supported_kinds", "9", "11"],
]


def test_every_field_is_shown() -> None:
    relay = with_group()
    assert relay.ask(ANN, 9002, "tea", *EVERYTHING) == ""
    assert relay.document(39000, "tea") == EVERYTHING


@pytest.mark.parametrize("absent", range(len(EVERYTHING)))
def test_what_an_edit_does_not_carry_is_gone(absent: int) -> None:
    relay = with_group()
    assert relay.ask(ANN, 9002, "tea", *EVERYTHING) == ""
    rest = EVERYTHING[:absent] + EVERYTHING[absent + 1 :]
    assert relay.ask(ANN, 9002, "tea", *rest) == ""
    assert relay.document(39000, "tea") == rest


def test_no_kind_at_all_can_be_supported() -> None:
    """It can contain no items, in which case no kinds are supported."""
    relay = with_group()
    assert relay.ask(ANN, 9002, "tea", ["supported_kinds"]) == ""
    assert relay.document(39000, "tea") == [["supported_kinds"]]


def test_tags_without_a_meaning_are_passed_over() -> None:
    relay = with_group()
    others = [["public"], ["open"], ["d", "coffee"], ["name"], ["topic", "x"], ["about", ""]]
    assert relay.ask(ANN, 9002, "tea", *others) == ""
    assert relay.document(39000, "tea") == []


def test_the_first_of_two_counts() -> None:
    relay = with_group()
    twice = [["name", "A"], ["name", "B"], ["private"], ["private", "x"]]
    assert relay.ask(ANN, 9002, "tea", *twice) == ""
    assert relay.document(39000, "tea") == [["name", "A"], ["private"]]


@pytest.mark.parametrize(
    ("tag", "prefix"),
    [
        (["name", "x" * 257], "invalid: name"),
        (["picture", "x" * 2049], "invalid: picture"),
        (["banner", "x" * 2049], "invalid: banner"),
        (["about", "x" * 4097], "invalid: about"),
        (["supported_kinds", *map(str, range(257))], "invalid: at most 256"),
        (["supported_kinds", "nine"], "invalid: supported_kinds"),
        (["supported_kinds", "65536"], "invalid: supported_kinds"),
        (["supported_kinds", "-1"], "invalid: supported_kinds"),
        (["supported_kinds", "²"], "invalid: supported_kinds"),
        (["supported_kinds", "9", ""], "invalid: supported_kinds"),
        (["livekit"], "unsupported: "),
    ],
)
def test_what_cannot_be_is_refused(tag: list[str], prefix: str) -> None:
    relay = with_group(["name", "Tea"])
    assert relay.ask(ANN, 9002, "tea", ["about", "x"], tag).startswith(prefix)
    assert relay.document(39000, "tea") == [["name", "Tea"]]


def test_the_edges_are_accepted() -> None:
    tags = [
        ("name", "x" * 256),
        ("picture", "x" * 2048),
        ("banner", "x" * 2048),
        ("about", "x" * 4096),
        ("supported_kinds", *map(str, range(65535, 65535 - 256, -1))),
    ]
    demand_valid(tags)
    assert read_metadata(tags).tags() == tuple(tags)


def test_nothing_that_is_read_back_is_a_fault() -> None:
    """What the log says is taken as it is, also where an edit like it would be refused now."""
    odd = [("supported_kinds", "x", "9", "9"), ("livekit",), ("parent",), ("parent", "b"), ("",)]
    assert read_metadata(odd) == Metadata(supported_kinds=(9,), parent="")
