from collections.abc import Callable
from functools import partial

import pytest
import trio
import trio.testing

from relay.session import frames
from relay.session.writer import Writer


class Pipe(trio.abc.SendStream):
    """A socket of which the test decides how much it takes."""

    def __init__(self, takes: int = 1 << 30) -> None:
        self.takes = takes
        self.sent = b""
        self.sends = 0
        self.broken = False
        self._room = trio.lowlevel.ParkingLot()

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        if self.broken:
            raise trio.BrokenResourceError
        taken = min(self.takes, len(data))
        self.takes -= taken
        self.sent += bytes(data[:taken])
        self.sends += 1
        return taken

    async def wait_send_all_might_not_block(self) -> None:
        while not self.takes:
            await self._room.park()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise AssertionError(f"the direct way is there for {data!r}")

    async def aclose(self) -> None:
        raise AssertionError("closing is the connection's business")

    def drain(self, takes: int = 1 << 30) -> None:
        self.takes = takes
        self._room.unpark_all()


class Losses(list[str]):
    pass


@pytest.fixture
def losses() -> Losses:
    return Losses()


Making = Callable[..., Writer]


@pytest.fixture
def make(nursery: trio.Nursery, losses: Losses) -> Making:
    def writer(pipe: trio.abc.SendStream, **bounds: float) -> Writer:
        made = Writer(pipe, on_lost=losses.append, **bounds)  # type: ignore[arg-type]  # ints and floats
        nursery.start_soon(made.run)
        return made

    return writer


settled = trio.testing.wait_all_tasks_blocked


async def test_an_idle_writer_sends_within_the_flush(make: Making) -> None:
    pipe = Pipe()
    writer = make(pipe)
    await settled()
    for frame in (b"a", b"b", b"c"):
        assert writer.stage(frame)
    assert pipe.sent == b""
    writer.flush()
    assert (pipe.sent, pipe.sends) == (b"abc", 1)


async def test_what_the_socket_does_not_take_is_finished_before_anything_else(make: Making) -> None:
    pipe = Pipe(takes=2)
    writer = make(pipe)
    await settled()
    writer.stage(b"first")
    writer.flush()
    writer.control(frames.ping_frame())
    writer.stage(b"second")
    writer.flush()
    assert pipe.sent == b"fi"
    pipe.drain()
    await settled()
    assert pipe.sent == b"first" + frames.ping_frame() + b"second"


async def test_f6_the_short_way_is_taken_only_when_nothing_is_before_it(make: Making) -> None:
    pipe = Pipe(takes=5)
    writer = make(pipe)
    await settled()
    assert writer.write_through(b"one")
    writer.stage(b"staged")
    assert not writer.write_through(b"x"), "something is staged"
    writer.flush()
    assert pipe.sent == b"onest"
    for _ in range(2):
        assert not writer.write_through(b"x"), "half a frame was sent, and then the task has it"
        await settled()
    pipe.drain(takes=6)
    await settled()
    assert writer.write_through(b"12345")
    assert pipe.sent == b"onestaged12"
    pipe.drain()
    await settled()
    assert pipe.sent == b"onestaged12345"
    assert writer.write_through(b"!")
    writer.finish()
    assert not writer.write_through(b"x"), "nothing may follow the last frame"
    assert pipe.sent == b"onestaged12345!"


async def test_f6_control_frames_overtake_queued_data_between_frames(make: Making) -> None:
    pipe = Pipe(takes=0)
    writer = make(pipe)
    await settled()
    for number in range(5):
        writer.stage(b"<%d>" % number)
        writer.flush()
    await settled()
    writer.control(frames.pong_frame(b"late"))
    pipe.drain()
    await settled()
    assert sorted(pipe.sent.replace(frames.pong_frame(b"late"), b"|")) == sorted(
        b"<0><1><2><3><4>|"
    )
    assert pipe.sent.index(frames.pong_frame(b"late")) < pipe.sent.index(b"<4>")
    assert pipe.sent.replace(frames.pong_frame(b"late"), b"") == b"<0><1><2><3><4>"


async def test_a_flood_of_pings_keeps_only_the_latest_pong_waiting(make: Making) -> None:
    pipe = Pipe(takes=0)
    writer = make(pipe)
    await settled()
    writer.stage(b"data")
    writer.flush()
    for number in range(1000):
        writer.control(frames.pong_frame(b"%d" % number))
    assert len(writer._control) == 1
    pipe.drain()
    await settled()
    assert pipe.sent == b"data" + frames.pong_frame(b"999")


async def test_a_full_queue_says_no_in_chunks_and_in_bytes(make: Making) -> None:
    pipe = Pipe(takes=0)
    writer = make(pipe, capacity=10, max_bytes=1000)
    await settled()
    taken = 0
    while writer.stage(b"x"):
        writer.flush()
        taken += 1
    assert taken <= 11
    pipe.drain()
    await settled()
    assert pipe.sent == b"x" * taken
    pipe.drain(takes=0)
    assert writer.stage(b"y" * 5000), "no frame is too large for an empty queue"
    writer.flush()
    writer.stage(b"z" * 1000)
    writer.flush()
    assert not writer.stage(b"w")


async def test_answers_are_taken_even_when_full_and_leave_in_order(make: Making) -> None:
    pipe = Pipe(takes=0)
    writer = make(pipe, capacity=3)
    await settled()
    expected = b""
    for number in range(50):
        frame = b"<%d>" % number
        writer.stage_answer(frame)
        writer.flush()
        expected += frame
    pipe.drain()
    await settled()
    assert pipe.sent == expected


async def test_f4_a_full_queue_makes_others_wait_and_room_wakes_them(
    make: Making, nursery: trio.Nursery
) -> None:
    pipe = Pipe(takes=0)
    writer = make(pipe, max_bytes=10)
    await settled()
    writer.stage(b"0123456789")
    writer.flush()
    writer.stage(b"0123456789")
    writer.flush()
    assert not writer.has_room
    done: list[str] = []

    async def feed() -> None:
        await writer.send(lambda: b"more")
        done.append("fed")

    async def watch() -> None:
        await writer.wait_room()
        done.append("room")

    nursery.start_soon(feed)
    nursery.start_soon(watch)
    await settled()
    assert done == []
    pipe.drain()
    await settled()
    assert sorted(done) == ["fed", "room"]
    assert pipe.sent == b"01234567890123456789more"


async def test_a_cancelled_send_has_sent_nothing(make: Making) -> None:
    pipe = Pipe(takes=0)
    writer = make(pipe, max_bytes=10)
    await settled()
    for _ in range(2):
        writer.stage(b"0123456789")
        writer.flush()
    with trio.move_on_after(0.01):
        await writer.send(lambda: b"never")
    pipe.drain()
    await settled()
    assert b"never" not in pipe.sent


async def test_frames_are_made_only_when_they_will_be_sent(make: Making) -> None:
    # a compressed frame refers to those made before it: none may be made in vain
    pipe = Pipe()
    writer = make(pipe, max_bytes=4)
    await settled()
    made: list[bytes] = []

    def frame() -> bytes:
        made.append(b"frame")
        return b"frame"

    assert writer.stage(b"large")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.send, frame)
        await settled()
        assert made == [], "there is no room"
        nursery.cancel_scope.cancel()
    with trio.CancelScope() as scope:
        scope.cancel()
        await writer.send(frame)
    writer.flush()
    assert made == [], "it was cancelled"
    await writer.send(frame)
    assert (made, pipe.sent) == ([b"frame"], b"largeframe")


async def test_p1_who_is_woken_and_then_cancelled_has_sent_nothing(make: Making) -> None:
    pipe = Pipe()
    writer = make(pipe, max_bytes=4)
    await settled()
    assert writer.stage(b"large")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.send, lambda: b"of a subscription that was replaced")
        await settled()
        # makes room, and tells who waits for it; whose end comes before its turn
        writer.flush()
        nursery.cancel_scope.cancel()
    await settled()
    assert pipe.sent == b"large"


async def test_finish_flushes_everything_and_ends_with_the_last_frame() -> None:
    pipe = Pipe(takes=3)
    writer = Writer(pipe, on_lost=lambda _: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await settled()
        for _ in range(5):
            writer.stage(b"data")
            writer.flush()
        writer.finish(b"close")
        assert not writer.stage(b"after the end")
        writer.stage_answer(b"after the end")
        writer.flush()
        pipe.drain()
    assert pipe.sent == b"data" * 5 + b"close"


async def test_abandon_drops_the_queue_but_not_half_a_frame_nor_control() -> None:
    pipe = Pipe(takes=2)
    writer = Writer(pipe, on_lost=lambda _: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await settled()
        writer.stage(b"half")
        writer.flush()
        await settled()
        for _ in range(5):
            writer.stage(b"dropped")
            writer.flush()
        writer.control(b"\x88close")
        writer.abandon()
        pipe.drain()
    assert pipe.sent == b"half\x88close"


async def test_abandon_drops_what_the_task_was_handed_and_has_not_sent() -> None:
    pipe = Pipe()
    writer = Writer(pipe, on_lost=lambda _: None)
    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            await settled()
            # control, then a chunk for the task that waits, which has no turn before the end
            pipe.takes = 0
            writer.control(frames.pong_frame(b"last"))
            writer.stage(b"dropped")
            writer.flush()
            writer.abandon()
            pipe.drain()
    assert pipe.sent == frames.pong_frame(b"last")
    assert writer.queued_chunks == 0
    assert writer.queued_bytes == 0


async def test_nothing_leaves_behind_a_close(make: Making) -> None:
    pipe = Pipe(takes=0)
    writer = make(pipe)
    await settled()
    writer.stage(b"first")
    writer.flush()
    await settled()
    writer.stage(b"second")
    writer.flush()
    writer.control(b"\x88\x00")
    assert not writer.stage(b"third")
    writer.stage_answer(b"fourth")
    writer.flush()
    pipe.drain()
    await settled()
    assert pipe.sent.endswith(b"\x88\x00")
    assert pipe.sent.removesuffix(b"\x88\x00") in (b"", b"first")


async def test_f3_who_waits_for_room_is_woken_when_a_flush_sends_all_that_was_staged(
    make: Making,
) -> None:
    pipe = Pipe()
    writer = make(pipe, max_bytes=4)
    await settled()
    assert writer.stage(b"large")
    assert not writer.has_room
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.send, lambda: b"behind it")
        await settled()
        writer.flush()
        await settled()
        nursery.cancel_scope.cancel()
    assert pipe.sent == b"largebehind it"


async def test_a_stalled_socket_loses_the_connection_after_the_write_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    losses: list[str] = []
    pipe = Pipe(takes=0)
    writer = Writer(pipe, on_lost=losses.append, write_timeout=10.0)
    began = autojump_clock.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        writer.stage(b"data")
        writer.flush()
        await trio.sleep(9)
        assert losses == []
    # the writer's task has ended by itself
    assert 10 <= autojump_clock.current_time() - began < 11
    assert "stalled" in losses[0]
    assert not writer.stage(b"more")
    await writer.send(lambda: b"more")
    await writer.wait_room()


async def test_slow_progress_is_no_stall(autojump_clock: trio.testing.MockClock) -> None:
    losses: list[str] = []
    pipe = Pipe(takes=0)
    writer = Writer(pipe, on_lost=losses.append, write_timeout=10.0)
    began = autojump_clock.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        writer.stage(b"x" * 10)
        writer.flush()
        for _ in range(10):
            await trio.sleep(9)
            pipe.drain(takes=1)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert autojump_clock.current_time() - began >= 90
    assert pipe.sent == b"x" * 10
    assert losses == []


async def test_a_broken_socket_loses_the_connection_once(make: Making, losses: Losses) -> None:
    pipe = Pipe()
    writer = make(pipe)
    await settled()
    pipe.broken = True
    for _ in range(3):
        writer.stage(b"data")
        writer.flush()
        writer.control(b"\x89\x00")
    await settled()
    assert losses == ["the peer is gone"]


async def test_a_stream_without_the_direct_way_is_served_as_well(make: Making) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    writer = make(ours, capacity=5)
    expected = b"".join([b"<%d>" % number for number in range(200)])
    received = b""

    async def read_slowly() -> None:
        nonlocal received
        while len(received) < len(expected) + 1:
            received += bytes(await theirs.receive_some(7))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_slowly)
        for number in range(200):
            frame = b"<%d>" % number
            await writer.send(partial(bytes, frame))
            if number == 100:
                writer.control(b"!")
    assert received.replace(b"!", b"") == expected
    assert received.index(b"!") < received.index(b"<110>")


async def test_a_control_frame_that_comes_during_a_send_is_not_lost(make: Making) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    writer = make(ours)
    await settled()
    writer.control(frames.pong_frame(b"first"))
    await settled()  # its send is under way
    writer.control(frames.pong_frame(b"second"))
    received = b""
    with trio.fail_after(5):
        while not received.endswith(b"second"):
            received += bytes(await theirs.receive_some(64))
    assert received == frames.pong_frame(b"first") + frames.pong_frame(b"second")
