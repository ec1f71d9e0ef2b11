import gc
import weakref

import trio
import trio.testing

from relay.ops.memory import give_back, release_memory


async def test_memory_is_released_when_most_of_many_connections_have_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    began = autojump_clock.current_time()
    counts = iter([10, 900, 1000, 700, 600, 500, 480, 400, 240, 230, 0, 0])
    now = 0
    released: list[int] = []

    def open_connections() -> int:
        nonlocal now
        now = next(counts, -1)
        if now < 0:
            nursery.cancel_scope.cancel()
        return max(now, 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_back, open_connections, lambda: released.append(now))
    # half of 1,000 have gone; then half of 500; the last 240 are not many
    assert released == [500, 240]
    assert autojump_clock.current_time() - began == 65


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
