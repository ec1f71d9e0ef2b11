"""The ledger's compact records say what lists of all that happened would say."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from relay.check.ledger import Agreement, Arrival, Ledger, Phase

STREAMS = 2
SUBSCRIPTIONS = 2
EVENTS = 6


class Naive:
    """Keeps everything that happened, and looks through it."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = [[] for _ in range(STREAMS)]
        self.outcome: dict[str, bool] = {}
        self.arrivals: list[list[str]] = [[] for _ in range(SUBSCRIPTIONS)]
        self.ended: set[int] = set()

    def _place(self, event: str) -> tuple[int, int] | None:
        for stream, events in enumerate(self.sent):
            if event in events:
                return stream, events.index(event)
        return None

    def received(self, subscription: int, event: str) -> Arrival:
        place = self._place(event)
        if place is None:
            return Arrival.UNEXPECTED
        before = [self._place(one) for one in self.arrivals[subscription]]
        self.arrivals[subscription].append(event)
        if place in before:
            return Arrival.DUPLICATED
        later = [one for one in before if one and one[0] == place[0] and one[1] > place[1]]
        return Arrival.REORDERED if later else Arrival.EXPECTED

    def missing(self, subscription: int) -> list[tuple[int, int]]:
        return [
            (stream, number)
            for stream, events in enumerate(self.sent)
            for number, event in enumerate(events)
            if self.outcome.get(event) and event not in self.arrivals[subscription]
        ]


events = st.integers(0, EVENTS - 1).map(lambda number: f"e{number}")
steps = st.one_of(
    st.tuples(st.just("sent"), events, st.integers(0, STREAMS - 1)),
    st.tuples(st.just("answered"), events, st.booleans()),
    st.tuples(st.just("received"), events, st.integers(0, SUBSCRIPTIONS - 1)),
    st.tuples(st.just("received"), events, st.integers(0, SUBSCRIPTIONS - 1)),
    st.tuples(st.just("ended"), events, st.integers(0, SUBSCRIPTIONS - 1)),
)


@given(st.lists(steps, max_size=60))
def test_the_ledger_agrees_with_the_naive_one(course: list[tuple[str, str, int]]) -> None:
    ledger, naive = Ledger(STREAMS), Naive()
    for _ in range(SUBSCRIPTIONS):
        ledger.add_subscription()
    counts: Counter[tuple[int, Arrival]] = Counter()
    for step, event, value in course:
        known = any(event in stream for stream in naive.sent)
        if step == "sent" and not known:
            assert ledger.sent(event, value, 0.0) == len(naive.sent[value])
            naive.sent[value].append(event)
        elif step == "answered":
            first = known and event not in naive.outcome
            assert ledger.answered(event, accepted=bool(value)) == first
            if first:
                naive.outcome[event] = bool(value)
        elif step == "received":
            arrival = naive.received(value, event)
            assert ledger.received(value, event, 0.0) is arrival
            counts[value, arrival] += 1
        elif step == "ended":
            ledger.end_subscription(value)
            naive.ended.add(value)
    missing = [naive.missing(subscription) for subscription in range(SUBSCRIPTIONS)]
    live = [number for number in range(SUBSCRIPTIONS) if number not in naive.ended]
    assert [list(ledger.missing(number)) for number in range(SUBSCRIPTIONS)] == missing
    assert ledger.lost() == {number: len(missing[number]) for number in live if missing[number]}
    assert ledger.missed_count() == sum(len(missing[number]) for number in naive.ended)
    assert ledger.unanswered_count == sum(map(len, naive.sent)) - len(naive.outcome)
    assert ledger.is_settled() == (
        ledger.unanswered_count == 0 and not any(missing[number] for number in live)
    )
    for number in range(SUBSCRIPTIONS):
        assert ledger.duplicated[number] == counts[number, Arrival.DUPLICATED]
        assert ledger.reordered[number] == counts[number, Arrival.REORDERED]
        assert ledger.unexpected[number] == counts[number, Arrival.UNEXPECTED]
        assert ledger.received_by[number] == len(naive.arrivals[number])


def test_what_comes_back_after_it_was_forgotten_is_unexpected() -> None:
    ledger = Ledger(remembered=2)
    subscription = ledger.add_subscription()
    for event in "abc":
        ledger.sent(event, 0, 0.0)
        ledger.answered(event, accepted=True)
        assert ledger.received(subscription, event, 0.0) is Arrival.EXPECTED
    assert ledger.received(subscription, "a", 0.0) is Arrival.UNEXPECTED
    assert ledger.received(subscription, "c", 0.0) is Arrival.DUPLICATED
    assert ledger.is_settled()


def test_what_was_lost_is_known_also_when_its_id_is_forgotten() -> None:
    ledger = Ledger(remembered=2)
    subscription = ledger.add_subscription()
    for number, event in enumerate("abcdef"):
        ledger.sent(event, 0, 0.0)
        ledger.answered(event, accepted=True)
        if number != 1:
            ledger.received(subscription, event, 0.0)
    assert list(ledger.missing(subscription)) == [(0, 1)]


def agreed(arrivals: Sequence[tuple[int, str]], subscriptions: int) -> Ledger:
    """Return the ledger of an agreement to which all this arrived while it compared."""
    ledger = Ledger()
    agreement = Agreement(ledger)
    agreement.phase = Phase.COMPARING
    for _ in range(subscriptions):
        ledger.add_subscription()
    for subscription, event in arrivals:
        agreement.received(subscription, event, 0.0)
    return ledger


@given(
    st.lists(st.integers(0, 50), unique=True, max_size=12).map(lambda some: [str(n) for n in some]),
    st.data(),
)
def test_subscriptions_with_the_same_events_in_the_same_order_agree(
    order: list[str], data: st.DataObject
) -> None:
    # each gets the events in this order, the two interleaved in any way
    waiting = [list(order), list(order)]
    arrivals = []
    while any(waiting):
        choice = data.draw(st.sampled_from([n for n in range(2) if waiting[n]]))
        arrivals.append((choice, waiting[choice].pop(0)))
    ledger = agreed(arrivals, 2)
    assert ledger.is_settled()
    assert not ledger.reordered
    assert not ledger.duplicated


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abcd")), max_size=12))
def test_whatever_differs_between_subscriptions_is_found(arrivals: list[tuple[int, str]]) -> None:
    ledger = agreed(arrivals, 2)
    seen = {event for _, event in arrivals}
    for subscription in range(2):
        own = [event for number, event in arrivals if number == subscription]
        assert ledger.lost().get(subscription, 0) == len(seen - set(own))
        assert ledger.duplicated[subscription] == len(own) - len(set(own))


def test_another_order_on_one_subscription_is_seen() -> None:
    ledger = agreed([(0, "a"), (0, "b"), (1, "b"), (1, "a")], 2)
    assert ledger.reordered == {1: 1}


def test_what_is_seen_first_before_or_after_is_not_judged() -> None:
    ledger = Ledger()
    agreement = Agreement(ledger)
    ledger.add_subscription()
    ledger.add_subscription()
    agreement.received(0, "early", 0.0)
    agreement.phase = Phase.COMPARING
    agreement.received(0, "between", 0.0)
    agreement.received(0, "early", 0.0)
    agreement.phase = Phase.SETTLING
    agreement.received(1, "late", 0.0)
    assert ledger.lost() == {1: 1}
    agreement.received(1, "between", 0.0)
    assert ledger.is_settled()
    assert not ledger.duplicated
