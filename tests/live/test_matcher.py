from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.live.matcher import Matcher, plain_match
from relay.protocol.event import Event
from relay.protocol.filters import Filter
from tests.strategies import events, filters

NOTE = Event("a" * 64, "b" * 64, 100, 1, (("t", "x"),), "", "0" * 128)


class MatcherAgainstThePlainDefinition(RuleBasedStateMachine):
    """Subscribers come and go; every event finds exactly those whom the definition names."""

    def __init__(self) -> None:
        super().__init__()
        self.matcher: Matcher[int] = Matcher()
        self.subscribers: dict[int, tuple[Filter, ...]] = {}
        self.next = 0

    @rule(wanted=st.lists(filters, min_size=1, max_size=3))
    def add(self, wanted: list[Filter]) -> None:
        self.matcher.add(self.next, wanted)
        self.subscribers[self.next] = tuple(wanted)
        self.next += 1

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.subscribers:
            one = data.draw(st.sampled_from(sorted(self.subscribers)))
            self.matcher.remove(one)
            del self.subscribers[one]
        self.matcher.remove(-1)

    @rule(event=events)
    def match(self, event: Event) -> None:
        found = list(self.matcher.match(event))
        assert len(found) == len(set(found)), "somebody was told twice"
        assert set(found) == set(plain_match(self.subscribers, event))

    @invariant()
    def knows_who_is_registered(self) -> None:
        assert len(self.matcher) == len(self.subscribers)

    def teardown(self) -> None:
        for one in list(self.subscribers):
            self.matcher.remove(one)
        remains = vars(self.matcher)
        assert not any(remains.values()), f"something was left behind: {remains}"


TestMatcher = MatcherAgainstThePlainDefinition.TestCase
TestMatcher.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def test_f1_every_subscriber_of_equal_filters_is_told() -> None:
    matcher: Matcher[int] = Matcher()
    for one in range(100):
        matcher.add(one, [Filter(kinds=frozenset([1]), limit=one)])
    assert list(matcher.match(NOTE)) == list(range(100))
    assert len(matcher._interests) == 1, "the limit makes no filter different for live events"


def test_cost_does_not_depend_on_filters_that_share_nothing_with_the_event() -> None:
    matcher: Matcher[int] = Matcher()
    for one in range(1000):
        matcher.add(one, [Filter(authors=frozenset([f"{one:064x}"]), kinds=frozenset([1]))])
    matcher.add(-1, [Filter(tags=(("t", frozenset(["x", "y"])),))])
    assert len(list(matcher._met(NOTE, frozenset(["tx"])))) == 1
    assert list(matcher.match(NOTE)) == [-1]


@given(st.lists(filters, min_size=1, max_size=4), events)
def test_two_filters_of_one_subscriber_tell_it_once(wanted: list[Filter], event: Event) -> None:
    matcher: Matcher[str] = Matcher()
    matcher.add("one", wanted)
    assert list(matcher.match(event)) == plain_match({"one": tuple(wanted)}, event)
