import gc
import weakref

import trio
import trio.testing

from relay.ops.memory import give_back, release_memory


async def test_memory_is_released_when_more_connections_have_gone_than_are_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    began = autojump_clock.current_time()
    # (ever, open): 900 come, 300 go, 300 more go, the crowd goes on leaving, nobody goes, few go
    counts = [(900, 900), (900, 600), (900, 300), (900, 120), (900, 20), (900, 20), (900, 5)]
    seen: list[tuple[int, int]] = []
    forgotten: list[tuple[int, int]] = []
    released: list[tuple[int, int]] = []

    def connections() -> tuple[int, int]:
        if not counts:
            scope.cancel()
            return seen[-1]
        seen.append(counts.pop(0))
        return seen[-1]

    with trio.CancelScope() as scope:
        await give_back(
            connections, lambda: forgotten.append(seen[-1]), lambda: released.append(seen[-1])
        )
    assert forgotten == released
    assert released == [(900, 300), (900, 120), (900, 20)]
    assert autojump_clock.current_time() - began == 40


async def test_everything_is_looked_at_every_six_hours(
    autojump_clock: trio.testing.MockClock,
) -> None:
    released: list[float] = []
    began = autojump_clock.current_time()
    with trio.move_on_after(13 * 3600):
        await give_back(
            lambda: (5, 5), lambda: None, lambda: released.append(trio.current_time() - began)
        )
    assert released == [6 * 3600, 12 * 3600]


def test_garbage_in_cycles_is_gone_after_a_release() -> None:
    class Cycle:
        pass

    one = Cycle()
    one.myself = one  # type: ignore[attr-defined]  # that is the point
    gone = weakref.ref(one)
    gc.disable()
    try:
        del one
        assert gone() is not None
        release_memory()
        assert gone() is None
    finally:
        gc.enable()
