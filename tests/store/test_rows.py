"""What is read off a row's JSON is what the decoded event says."""

from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.event import record
from relay.protocol.filters import Filter
from relay.store.sqlite.rows import row_check
from tests.store.making import note

texts = st.text(st.sampled_from([*'ab"\\[],:', "\n", "\0", "é", "\u2028", "😀"]), max_size=4)
tag_lists = st.lists(st.lists(st.one_of(st.sampled_from("tde"), texts), max_size=3), max_size=5)


@given(tag_lists, st.frozensets(texts, min_size=1, max_size=4), st.sampled_from("tde"), texts)
def test_a_row_is_compared_as_its_event_is(
    tags: list[list[str]], values: frozenset[str], letter: str, content: str
) -> None:
    event, raw = record(note(tags=tags, content=content).event)
    filter_ = Filter(tags=((letter, values),))
    check = row_check(filter_, kinds_settled=True)
    assert check is not None
    assert check(raw) == filter_.matches(event)


@given(tag_lists, st.frozensets(texts, min_size=1, max_size=3))
def test_two_conditions_must_both_hold(tags: list[list[str]], values: frozenset[str]) -> None:
    event, raw = note(tags=tags, content='["t","a"]')
    for filter_ in (
        Filter(tags=(("d", values), ("t", values))),
        Filter(tags=(("t", values), ("t", frozenset(["a"])))),
        Filter(authors=frozenset([event.pubkey]), tags=(("t", values),)),
        Filter(authors=frozenset(["0" * 64]), tags=(("t", values),)),
        Filter(kinds=frozenset([1, 2]), tags=(("t", values),)),
        Filter(kinds=frozenset([2, 11]), tags=(("t", values),)),
    ):
        check = row_check(filter_, kinds_settled=False)
        assert check is not None
        assert check(raw) == filter_.matches(event)
