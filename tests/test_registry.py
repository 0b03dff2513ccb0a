"""The registry's clock, with the time in the tests' hands: a tick costs what is due."""

import asyncio
import time
from typing import Any

import async_timeout
import pytest

from sockjs_aio import ConnectionInfo, Settings
from sockjs_aio.core.flusher import FEW, Flusher
from sockjs_aio.core.loop_thread import LoopThread
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.core.request_session import RequestSession
from sockjs_aio.core.session import Session
from sockjs_aio.core.tcp import Delivery
from sockjs_aio.protocol.framing import SOCKJS
from tests.conftest import Echo
from tests.virtual_loop import VirtualLoop


class SetThread(LoopThread):
    """One whose clock does not go by itself."""

    def bind(self) -> None:
        time = self.time
        super().bind()
        self.time = time


class Registry(SessionRegistry):
    """A registry whose time is set."""

    time = 1000.0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.thread = SetThread()
        self.thread.time = lambda: self.time

    def advance(self, seconds: float) -> None:
        """Let time pass, ticking as the task would."""
        end = self.time + seconds
        while self.time < end - 1e-9:
            self.time += self.settings.tick_interval
            tick(self)


def tick(registry: Registry) -> None:
    """Do what is due now."""
    for _ in registry._clock.steps(registry.time):
        pass


class Writer:
    """Keeps the frames that it is given."""

    is_full = is_done = False
    is_http = True
    is_alive = True
    is_left = False
    buffered = 0

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.delivery = Delivery(None)
        self.is_aborted = False

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)

    def flush(self) -> int:
        return 0

    def send(self, frame: bytes) -> int:
        self.write(frame)
        return 0

    def conclude(self) -> None:
        pass

    def release(self) -> None:
        pass

    def probe(self, busy: bool) -> bool:
        return True

    def abort(self) -> None:
        self.is_aborted = True


class Info(ConnectionInfo):
    """About no request at all."""

    def __init__(self) -> None:
        self.ip = "127.0.0.1"
        self.transport = "xhr_streaming"
        self.until = None


@pytest.fixture
async def registry() -> Any:
    registry = Registry(Echo, Settings())
    yield registry
    for session in list(registry._sessions):
        session.end_now()
        session.hooks_returned()


def open_session(registry: SessionRegistry, name: str = "one") -> tuple[RequestSession, Writer]:
    session = registry.open(name, Info(), SOCKJS)
    receiver = Writer()
    session.attach(receiver)
    return session, receiver


async def test_heartbeats_go_out_on_time(registry: Registry) -> None:
    _, receiver = open_session(registry)
    registry.advance(24)
    assert receiver.frames == [b"o"]
    registry.advance(1)
    assert receiver.frames == [b"o", b"h"]
    registry.advance(50)
    assert receiver.frames == [b"o", b"h", b"h", b"h"]


async def test_messages_postpone_heartbeats(registry: Registry) -> None:
    session, receiver = open_session(registry)
    for _ in range(5):
        registry.advance(20)
        session.send("x")
        session.flush()
    assert receiver.frames == [b"o"] + [b'a["x"]'] * 5
    registry.advance(25)
    assert receiver.frames[-1] == b"h"


async def test_detached_session_expires_after_disconnect_delay(registry: Registry) -> None:
    session, receiver = open_session(registry)
    session.begin()
    await asyncio.sleep(0)
    registry.advance(100)
    receiver.is_done = True
    session.flush()
    registry.advance(4)
    assert session.is_open
    registry.advance(2)
    assert session.is_closed
    assert registry.get("one") is None, "whoever asks for it now opens another one"
    assert len(registry) == 1, "until its on_close has returned"
    await asyncio.sleep(0)
    assert len(registry) == 0


async def test_tick_touches_only_what_is_due(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticked = []
    tick = Session.tick

    def counting(session: Session, now: float) -> None:
        ticked.append(session.id)
        tick(session, now)

    monkeypatch.setattr(Session, "tick", counting)
    for number in range(50):
        open_session(registry, str(number))
        registry.time += 0.5
    ticked.clear()
    registry.advance(100)
    assert len(ticked) <= 50 * 100 / 25 + 50


async def test_stopped_clock_catches_up(registry: Registry) -> None:
    _, receiver = open_session(registry)
    registry.time += 1000  # the loop was blocked, or the machine asleep
    tick(registry)
    assert receiver.frames == [b"o", b"h"]
    registry.advance(25)
    assert receiver.frames == [b"o", b"h", b"h"]


@pytest.mark.parametrize("interval", [1e-9, 1e-300])
async def test_tick_after_many_short_intervals_looks_only_at_what_is_due(interval: float) -> None:
    registry = Registry(Echo, Settings(session_check_interval=interval))
    _, receiver = open_session(registry)
    registry._clock.stop()  # it would look as often as that
    registry.time += 25.5
    tick(registry)
    assert receiver.frames == [b"o", b"h"]


async def test_session_that_is_due_again_at_once_is_not_lost(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = []
    monkeypatch.setattr(Session, "deadline", lambda session: registry.time)
    monkeypatch.setattr(Session, "tick", lambda session, now: ticks.append(now))
    open_session(registry)
    registry.advance(5)
    assert len(ticks) == 5
    monkeypatch.undo()


@pytest.mark.logs("tick failed")
async def test_failing_tick_does_not_stop_the_others(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    _, broken = open_session(registry, "broken")
    _, receiver = open_session(registry, "fine")

    def fail(frame: bytes) -> None:
        raise ZeroDivisionError("mistake")

    broken.write = fail  # type: ignore[method-assign]
    registry.advance(25)
    assert receiver.frames == [b"o", b"h"]
    assert "session brok… (xhr_streaming): tick failed" in caplog.text


@pytest.mark.logs("writing failed")
async def test_failing_flush_does_not_stop_the_others(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    first, broken = open_session(registry, "broken")
    second, receiver = open_session(registry, "fine")

    def fail(frame: bytes) -> None:
        raise ZeroDivisionError("mistake")

    broken.write = fail  # type: ignore[method-assign]
    for session in (first, second):
        session.send("x")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert receiver.frames == [b"o", b'a["x"]']
    assert "writing failed" in caplog.text


async def test_many_sessions_are_flushed_in_turns(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sockjs_aio.turns.TURN", 0)
    members = [open_session(registry, str(number)) for number in range(40)]
    for session, _ in members:
        session.send("x")
    for written in (FEW, 2 * FEW, 40):  # the clock is looked at after as many
        await asyncio.sleep(0)
        frames = [receiver.frames[1:] for _, receiver in members]
        assert frames == [[b'a["x"]']] * written + [[]] * (40 - written)


class Flushed:
    """Counts its flushes; the first one may end the process, as a signal's handler does there."""

    def __init__(self, *, stops: bool = False) -> None:
        self.count = 0
        self.stops = stops

    def flush(self, now: float | None = None) -> None:
        self.count += 1
        if self.stops and self.count == 1:
            raise KeyboardInterrupt


def test_end_of_the_process_in_a_flush_keeps_no_others_from_being_flushed() -> None:
    flusher, first, second, late = Flusher(), Flushed(stops=True), Flushed(), Flushed()

    async def flush(*sessions: Flushed) -> None:
        for session in sessions:
            flusher.schedule(session)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    try:
        running = loop.create_task(flush(first, second))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(running)
        loop.run_until_complete(running)
        loop.run_until_complete(flush(first, late))
    finally:
        loop.close()
    assert [first.count, second.count, late.count] == [2, 1, 1]


async def test_many_sessions_that_are_due_are_ticked_in_turns(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sockjs_aio.turns.TURN", 0)
    members = [open_session(registry, str(number)) for number in range(10)]
    registry.time += 26
    ticking = asyncio.ensure_future(registry._clock.tick(registry.time))
    await asyncio.sleep(0)
    assert sum(receiver.frames[-1:] == [b"h"] for _, receiver in members) == 1
    for session, _ in members[5:]:
        session.end_now()
        session.hooks_returned()  # whoever ends meanwhile is no obstacle
    await ticking
    beaten = [receiver.frames[-1:] == [b"h"] for _, receiver in members]
    assert all(beaten[:5]) and sum(beaten[5:]) <= 1


async def test_task_lives_as_long_as_there_are_sessions(registry: Registry) -> None:
    assert registry._clock._task is None
    session, receiver = open_session(registry)
    task = registry._clock._task
    assert task is not None
    receiver.is_done = True
    session.flush()
    registry.advance(10)
    await asyncio.sleep(0)
    assert registry._clock._task is None
    await asyncio.wait([task])


async def test_task_starts_again_if_something_has_cancelled_it(registry: Registry) -> None:
    """Such as code that cancels all tasks, and lets the loop go on."""
    _, receiver = open_session(registry, "cut")
    task = registry._clock._task
    assert task is not None
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert receiver.is_aborted
    registry.time += 100  # the heartbeat of the first session is overdue
    open_session(registry, "next")
    assert registry._clock._task not in (None, task)
    tick(registry)
    assert receiver.frames == [b"o", b"h"]


async def test_late_tick_lets_what_has_come_be_taken_in_first() -> None:
    registry = SessionRegistry(Echo, Settings(disconnect_delay=0.02))
    sessions = [registry.open(name, Info(), SOCKJS) for name in ("one", "other")]
    for session in sessions:
        receiver = Writer()
        receiver.is_done = True
        session.attach(receiver)
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251  # ten times as long as sessions live without a receiver
    for _ in range(10):
        await asyncio.sleep(0)
    later = Writer()
    sessions[0].attach(later)
    async with async_timeout.timeout(5):
        while len(registry) > 1:
            await asyncio.sleep(0.001)
    assert sessions[0].is_open, "its request had come in time"
    assert sessions[1].is_closed, "nobody has asked for it"
    sessions[0].end_now()
    sessions[0].hooks_returned()


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")  # whose time cannot be set
async def test_sessions_expire_in_time_although_each_turn_of_the_loop_is_late() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    registry = SessionRegistry(
        Echo, Settings(disconnect_delay=1, heartbeat_delay=30, session_check_interval=0.1)
    )
    session, writer = open_session(registry)
    writer.is_done = True
    session.flush()
    start = loop.time()
    while not session.is_closed:  # as on a machine that does much else
        loop.block(0.02)
        await asyncio.sleep(0)
    took = loop.time() - start
    assert 1 < took < 2, took
    await asyncio.sleep(0)


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")  # whose time cannot be set
@pytest.mark.parametrize("idle_before", [0, 0.55, 0.69])
async def test_time_in_which_the_loop_is_blocked_is_given_back(idle_before: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    registry = SessionRegistry(
        Echo, Settings(disconnect_delay=1, heartbeat_delay=30, session_check_interval=0.1)
    )
    session, writer = open_session(registry)
    writer.is_done = True
    session.flush()
    await asyncio.sleep(idle_before)
    for _ in range(2):
        loop.block(7)
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.1)
    assert session.is_open, "two checks may come as late as they are apart"
    await asyncio.sleep(1.5)
    assert session.is_closed
    await asyncio.sleep(0)


PHASES = [step / 12 for step in range(12)]
"""When something happens between two checks, in parts of `session_check_interval`."""


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")  # whose time cannot be set
@pytest.mark.parametrize("interval", [1, 0.3])
async def test_sessions_end_at_most_one_check_late(interval: float) -> None:
    """Whenever the first of them came, and whenever each of them was left."""
    for came in PHASES:
        await asyncio.sleep(came * interval)
        registry = SessionRegistry(Echo, Settings(session_check_interval=interval))
        sessions = []
        for left in PHASES:
            session, writer = open_session(registry, str(left))
            session.begin()
            writer.is_done = True
            session.flush()  # the client does not come back
            sessions.append(session)
            await asyncio.sleep(interval / 12)
        await asyncio.sleep(registry.settings.disconnect_delay + interval)
        assert len(registry) == 0
        for session in sessions:
            assert session.close_info is not None
            late = session.close_info.seconds - registry.settings.disconnect_delay
            assert 0 <= late <= interval + 1e-9
