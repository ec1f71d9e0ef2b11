from hypothesis import given, settings

from relay.protocol.event import Event, tag_keys
from relay.protocol.filters import Filter, compile_filter, matches_any
from tests.strategies import events, filters

HEX = "a" * 64


def event(**changes: object) -> Event:
    fields: dict[str, object] = {
        "id": HEX,
        "pubkey": HEX,
        "created_at": 100,
        "kind": 1,
        "tags": (("t", "x", "y"), ("e",), ("long", "z")),
        "content": "",
        "sig": "0" * 128,
    }
    return Event(**(fields | changes))  # type: ignore[arg-type]  # the tests' own values


@given(filters, events)
@settings(max_examples=800, deadline=None)
def test_a_compiled_filter_answers_as_the_plain_one(filter_: Filter, one: Event) -> None:
    assert compile_filter(filter_)(one, tag_keys(one)) is filter_.matches(one)


def test_since_and_until_are_inclusive() -> None:
    assert Filter(since=100, until=100).matches(event())
    assert not Filter(since=101).matches(event())
    assert not Filter(until=99).matches(event())


def test_conditions_are_anded_and_values_ored() -> None:
    assert Filter(kinds=frozenset([1, 2]), authors=frozenset([HEX])).matches(event())
    assert not Filter(kinds=frozenset([2]), authors=frozenset([HEX])).matches(event())


def test_only_the_first_value_of_single_letter_tags_is_indexed() -> None:
    assert Filter(tags=(("t", frozenset(["x"])),)).matches(event())
    assert not Filter(tags=(("t", frozenset(["y"])),)).matches(event())
    assert not Filter(tags=(("T", frozenset(["x"])),)).matches(event())
    assert tag_keys(event()) == {"tx"}


def test_a_tag_without_a_value_matches_nothing() -> None:
    assert not Filter(tags=(("e", frozenset([""])),)).matches(event())
    assert Filter(tags=(("e", frozenset([""])),)).matches(event(tags=(("e", ""),)))


def test_several_filters_are_ored() -> None:
    assert matches_any((Filter(kinds=frozenset([7])), Filter(ids=frozenset([HEX]))), event())
    assert not matches_any((), event())
