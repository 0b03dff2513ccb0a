"""The session machine against a simple model of it, in random sequences of events."""

import json
import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sockjs_aio.errors import ReceiverConflictError
from sockjs_aio.protocol.framing import RAW, SOCKJS, Framing
from sockjs_aio.protocol.session_machine import FRAME_LIMIT, MESSAGE_OVERHEAD, SessionMachine
from sockjs_aio.protocol.session_state import State
from sockjs_aio.protocol.websocket import split_frames

HEARTBEAT_DELAY = 25
DISCONNECT_DELAY = 5
SEND_QUEUE_LIMIT = 200_000

sizes = st.one_of(
    *[st.integers(0, 50)] * 3,
    st.sampled_from([FRAME_LIMIT // 3, FRAME_LIMIT - 200, FRAME_LIMIT, SEND_QUEUE_LIMIT // 2]),
    st.just(SEND_QUEUE_LIMIT * 2),
)

framings = st.sampled_from([SOCKJS, RAW])
patiences = st.sampled_from([0, 4, 10, 20, 30])


class Sequences(RuleBasedStateMachine):
    """What may happen to a session, in any order, and what then has to be true.

    When a session is over the next one begins.  It may end after some steps only, or most would
    have ended before much had happened.
    """

    now = 1000.0
    is_over = True

    @initialize(framing=framings, patience=patiences)
    def begin_first(self, framing: Framing, patience: int) -> None:
        self.begin(framing, patience)

    @precondition(lambda self: self.is_over)
    @rule(framing=framings, patience=patiences)
    def begin_next(self, framing: Framing, patience: int) -> None:
        self.check_nothing_comes_of_the_dead()
        self.begin(framing, patience)

    def begin(self, framing: Framing, patience: int) -> None:
        self.framing = framing
        self.patience = patience
        self.machine = SessionMachine(
            framing,
            heartbeat_delay=HEARTBEAT_DELAY,
            disconnect_delay=DISCONNECT_DELAY,
            send_queue_limit=SEND_QUEUE_LIMIT,
            now=self.now,
        )
        # what is owed: messages, and frames to the receiver that is there
        self.number = 0
        self.waiting: list[str] = []
        self.latest: dict[str, str] = {}  # by key, also of what has left
        self.owes_open = self.owes_close = self.owes_heartbeat = False
        # what has happened
        self.is_attached = self.was_attached = False
        self.is_over = self.is_told = False
        self.has_failed = False
        self.end: tuple[int, str] | None = None
        self.opened = 0
        # clocks
        self.last_frame = self.idle_since = self.now

    # Questions to the model.

    @property
    def is_accepting(self) -> bool:
        return not (self.end or self.has_failed or self.is_over)

    @property
    def state(self) -> State:
        if self.is_over:
            return State.CLOSED
        if not self.is_accepting:
            return State.CLOSING
        return State.OPEN if self.was_attached else State.CONNECTING

    @property
    def due(self) -> float:
        if self.is_over:
            return math.inf
        if self.is_attached and self.is_accepting:
            return self.last_frame + HEARTBEAT_DELAY
        return self.idle_since + DISCONNECT_DELAY

    def bytes_of(self, messages: list[str]) -> int:
        return sum(len(self.framing.encode(x)) + MESSAGE_OVERHEAD for x in messages)

    def lives(self) -> bool:
        return not self.is_over

    def has_receiver(self) -> bool:
        return self.is_attached and not self.is_over

    def has_none(self) -> bool:
        return not self.is_attached and not self.is_over

    def may_end(self) -> bool:
        return self.patience < 0 and not self.is_over

    # Events.

    @precondition(has_receiver)
    @rule()
    def attach_another(self) -> None:
        before = repr(self.machine)
        with pytest.raises(ReceiverConflictError):
            self.machine.attach(self.now)
        assert repr(self.machine) == before

    @precondition(has_none)
    @rule()
    def attach(self) -> None:
        self.machine.attach(self.now)
        if self.state is State.CONNECTING:
            self.owes_open = self.framing is SOCKJS
        self.is_attached = self.was_attached = True
        self.owes_close = self.end is not None
        self.last_frame = self.now

    @precondition(has_receiver)
    @rule()
    def detach(self) -> None:
        self.machine.detach(self.now)
        self.model_detach()

    def model_detach(self) -> None:
        self.is_attached = self.owes_heartbeat = False
        if not self.is_told:
            self.idle_since = self.now

    @precondition(may_end)
    @rule()
    def interrupt(self) -> None:
        self.machine.interrupt(self.now)
        is_open = self.state is State.OPEN
        self.model_detach()
        if is_open:
            self.drop()
            self.model_close((1002, "Connection interrupted"))

    def drop(self) -> None:
        self.waiting = []
        self.owes_open = self.owes_heartbeat = False

    def model_close(self, end: tuple[int, str]) -> None:
        if self.is_accepting:
            self.end = end
            self.owes_close = self.is_attached
            self.last_frame = self.idle_since = self.now

    @precondition(lives)
    @rule(size=sizes, count=st.integers(1, 3))
    def queue(self, size: int, count: int) -> None:
        for _ in range(count):
            self.number += 1
            message = f"{self.number} {'x' * size}"
            added = self.bytes_of([message])
            queued = self.bytes_of(self.waiting)
            fits = queued + self.machine.downstream + added <= SEND_QUEUE_LIMIT
            is_alone = not queued and self.machine.downstream * 4 <= SEND_QUEUE_LIMIT
            accepted = self.machine.queue(self.framing.encode(message))
            assert accepted == (fits or is_alone or not self.is_accepting)
            if not accepted:
                self.machine.overflow(self.now)
                self.drop()
                self.model_close((1008, "Slow consumer"))
            elif self.is_accepting:
                self.waiting.append(message)

    @precondition(lives)
    @rule(size=sizes, key=st.sampled_from("abc"))
    def queue_latest(self, size: int, key: str) -> None:
        self.number += 1
        message = f"{self.number} {'x' * size}"
        older = self.latest.get(key)
        rest = [waiting for waiting in self.waiting if waiting != older]
        is_smaller = len(rest) < len(self.waiting) and older is not None
        is_smaller = is_smaller and self.bytes_of([message]) <= self.bytes_of([str(older)])
        queued = self.bytes_of(rest)
        fits = queued + self.machine.downstream + self.bytes_of([message]) <= SEND_QUEUE_LIMIT
        is_alone = not queued and self.machine.downstream * 4 <= SEND_QUEUE_LIMIT
        accepted = self.machine.queue(self.framing.encode(message), key)
        assert accepted == (fits or is_alone or is_smaller or not self.is_accepting)
        if not accepted:
            self.machine.overflow(self.now)
            self.drop()
            self.model_close((1008, "Slow consumer"))
        elif self.is_accepting:
            if older in self.waiting:
                self.waiting[self.waiting.index(older)] = message
            else:
                self.waiting.append(message)
            self.latest[key] = message

    @precondition(has_receiver)
    @rule(size=st.integers(0, SEND_QUEUE_LIMIT))
    def fill_downstream(self, size: int) -> None:
        self.machine.downstream = size

    @precondition(may_end)
    @rule(code=st.integers(1000, 4999))
    def close(self, code: int) -> None:
        assert self.machine.close(code, "why", now=self.now) == self.is_accepting
        self.model_close((code, "why"))

    @precondition(may_end)
    @rule()
    def fail(self) -> None:
        self.machine.peer_failed(self.now)
        self.drop()
        if self.is_accepting:
            self.has_failed = True
            self.idle_since = self.now
        self.owes_close = False

    @precondition(may_end)
    @rule()
    def vanish(self) -> None:
        self.machine.end_now()
        self.model_vanish()

    def model_vanish(self) -> None:
        self.drop()
        self.is_attached = self.owes_close = False
        self.is_over = True

    @precondition(lives)
    @rule(seconds=st.sampled_from([0, 0.5, 2, 4]))
    def pass_time(self, seconds: float) -> None:
        self.model_tick(seconds)

    @precondition(lambda self: self.may_end() or (self.is_attached and self.is_accepting))
    @rule(seconds=st.sampled_from([5, 20, 25, 100]))
    def pass_long_time(self, seconds: float) -> None:
        self.model_tick(seconds)

    def model_tick(self, seconds: float) -> None:
        self.now += seconds
        is_due, is_silent = self.now >= self.due, self.is_attached and self.is_accepting
        self.machine.tick(self.now)
        if is_due and is_silent:
            self.owes_heartbeat = self.framing is SOCKJS
            self.last_frame = self.now
        elif is_due:
            self.model_vanish()
        assert self.machine.deadline() > self.now

    @precondition(lives)
    @rule()
    def postpone(self) -> None:
        self.machine.postpone(self.now)
        self.idle_since = self.now

    # What comes of them.

    @precondition(has_receiver)
    @rule(count=st.sampled_from([1, 2, 100]))
    def take_frames(self, count: int) -> None:
        for _ in range(count):
            frame = self.machine.next_frame(self.now)
            self.check_frame(frame)
            if frame is None:
                break
            self.owes_heartbeat = False  # any frame is as good
            self.last_frame = self.now

    def check_frame(self, frame: bytes | None) -> None:
        if self.owes_open:
            assert frame == b"o" and not self.opened
            self.owes_open, self.opened = False, self.opened + 1
        elif self.waiting:
            assert frame is not None
            self.check_messages(frame)
        elif self.owes_close:
            assert self.end and frame == b'c[%d,"%b"]' % (self.end[0], self.end[1].encode())
            self.owes_close, self.is_told = False, True
        elif self.owes_heartbeat:
            assert frame == b"h"
        else:
            assert frame is None

    def check_messages(self, frame: bytes) -> None:
        messages = decoded(self.framing, frame)
        assert messages and messages == self.waiting[: len(messages)]
        assert self.bytes_of(messages[:-1]) < FRAME_LIMIT, "one message more at most"
        left = self.waiting[len(messages) :]
        assert not left or self.bytes_of(messages) >= FRAME_LIMIT, "no fewer than fit"
        self.waiting = left

    def check_nothing_comes_of_the_dead(self) -> None:
        assert self.machine.queue(b"late") and self.machine.queued == 0
        assert not self.machine.close(3000, "late", now=self.now)
        self.machine.tick(self.now + 1000)
        assert self.machine.next_frame(self.now) is None
        assert self.machine.state is State.CLOSED

    @invariant()
    def patience_wears_out(self) -> None:
        self.patience -= 1

    @invariant()
    def machine_is_as_the_model(self) -> None:
        assert self.machine.state is self.state
        assert self.machine.queued == self.bytes_of(self.waiting)
        assert self.machine.deadline() == self.due
        assert self.machine.is_accepting == self.is_accepting
        assert self.machine.is_told == (self.is_told or self.is_over)

    @invariant()
    def queue_is_bounded(self) -> None:
        assert self.bytes_of(self.waiting[:-1]) <= SEND_QUEUE_LIMIT

    def teardown(self) -> None:
        if not self.has_receiver():
            return
        while (frame := self.machine.next_frame(self.now)) is not None:
            self.check_frame(frame)
            self.owes_heartbeat = False
        assert not self.waiting, "nothing is kept from who takes all"


def decoded(framing: Framing, frame: bytes) -> list[Any]:
    """Return the messages that a frame carries."""
    if framing is RAW:
        return [payload.decode() for _, payload in split_frames(frame)]
    assert frame[:1] == b"a"
    return list(json.loads(frame[1:]))


@pytest.mark.timeout(300)
def test_machine_does_what_the_model_does_in_any_sequence_of_events() -> None:
    run_state_machine_as_test(Sequences, settings=settings(stateful_step_count=40))
