from hypothesis import given
from hypothesis import strategies as st

from relay.live.recent_ids import RecentIds


@given(st.lists(st.integers(0, 30)), st.integers(2, 12))
def test_at_least_half_of_the_capacity_is_known_and_never_more_than_all(
    numbers: list[int], capacity: int
) -> None:
    recent = RecentIds(capacity)
    for number in numbers:
        if str(number) not in recent:
            recent.add(str(number))
        assert str(number) in recent
    newest: list[int] = []
    for number in reversed(numbers):
        if number not in newest:
            newest.append(number)
    known = {number for number in range(31) if str(number) in recent}
    assert known <= set(numbers)
    assert len(known) <= capacity


def test_the_last_half_is_always_known() -> None:
    recent = RecentIds(10)
    for number in range(1_000):
        recent.add(str(number))
        assert all(str(one) in recent for one in range(max(0, number - 4), number + 1))
        assert sum(str(one) in recent for one in range(1_000)) <= 10


def test_nothing_is_known_once_cleared() -> None:
    recent = RecentIds(4)
    for number in range(6):
        recent.add(str(number))
    recent.clear()
    assert not any(str(number) in recent for number in range(6))
