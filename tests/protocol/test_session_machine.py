"""The session's states and clocks; no loop, no clock, no I/O."""

import math
from typing import Any

import pytest

from sockjs_aio.errors import ReceiverConflictError
from sockjs_aio.protocol.framing import RAW, SOCKJS, Framing
from sockjs_aio.protocol.session_machine import (
    FRAME_LIMIT,
    MESSAGE_OVERHEAD,
    KeyedOutbox,
    SessionMachine,
)
from sockjs_aio.protocol.session_state import State


def make(framing: Framing = SOCKJS, **options: Any) -> SessionMachine:
    defaults = {"heartbeat_delay": 25, "disconnect_delay": 5, "send_queue_limit": 1000}
    return SessionMachine(framing, now=0, **{**defaults, **options})


def send(machine: SessionMachine, *messages: str) -> bool:
    return all([machine.queue(SOCKJS.encode(message)) for message in messages])


def frames(machine: SessionMachine, now: float = 0) -> list[bytes]:
    taken = []
    while (frame := machine.next_frame(now)) is not None:
        taken.append(frame)
    return taken


def opened(**options: Any) -> SessionMachine:
    machine = make(**options)
    machine.attach(0)
    assert frames(machine) == [b"o"]
    return machine


def test_first_receiver_gets_the_open_frame() -> None:
    assert make().state is State.CONNECTING
    machine = make()
    machine.attach(0)
    assert machine.state is State.OPEN
    assert frames(machine) == [b"o"]


def test_open_frame_goes_out_once() -> None:
    machine = opened()
    machine.detach(1)
    machine.attach(2)
    assert frames(machine) == []


def test_messages_of_one_turn_are_one_frame() -> None:
    machine = opened()
    send(machine, "a", "b")
    assert frames(machine) == [b'a["a","b"]']


def test_messages_wait_for_a_receiver() -> None:
    machine = opened()
    machine.detach(0)
    send(machine, "a")
    send(machine, "b")
    machine.attach(1)
    assert frames(machine) == [b'a["a","b"]']
    assert machine.queued == 0


def test_second_receiver_is_refused_and_changes_nothing() -> None:
    machine = opened()
    before = repr(machine)
    with pytest.raises(ReceiverConflictError):
        machine.attach(1)
    assert repr(machine) == before


def test_messages_before_the_session_is_open_come_behind_the_open_frame() -> None:
    machine = make()
    assert send(machine, "a")
    machine.attach(0)
    assert frames(machine) == [b"o", b'a["a"]']


def test_close_frame_comes_after_the_queue() -> None:
    machine = opened()
    send(machine, "a")
    assert machine.close(3000, "Go away!", now=0)
    assert machine.state is State.CLOSING
    assert frames(machine) == [b'a["a"]', b'c[3000,"Go away!"]']


def test_close_frame_is_repeated_to_every_later_receiver() -> None:
    machine = opened()
    machine.close(3000, "Go away!", now=0)
    assert frames(machine) == [b'c[3000,"Go away!"]']
    for _ in range(2):
        machine.detach(0)
        machine.attach(0)
        assert frames(machine) == [b'c[3000,"Go away!"]']


def test_closing_again_does_nothing() -> None:
    machine = opened()
    assert machine.close(3000, "first", now=0)
    assert not machine.close(3001, "second", now=0)
    assert frames(machine) == [b'c[3000,"first"]']


@pytest.mark.parametrize(
    ("code", "reason"), [("3000", "Go away!"), (3000.0, "Go away!"), (3000, None)]
)
def test_closing_with_what_makes_no_frame_changes_nothing(code: Any, reason: Any) -> None:
    machine = opened()
    with pytest.raises(TypeError):
        machine.close(code, reason, now=0)
    assert machine.state is State.OPEN and send(machine, "a")
    assert frames(machine) == [b'a["a"]']
    assert machine.close(3001, "right", now=0)
    assert frames(machine) == [b'c[3001,"right"]']


def test_sending_after_close_does_nothing() -> None:
    machine = opened()
    machine.close(3000, "Go away!", now=0)
    assert send(machine, "a")
    assert frames(machine) == [b'c[3000,"Go away!"]']


def test_closed_before_the_first_receiver_still_says_so() -> None:
    machine = make()
    machine.close(3000, "Go away!", now=0)
    machine.attach(0)
    assert frames(machine) == [b'c[3000,"Go away!"]']


def test_close_while_opening_keeps_the_open_frame() -> None:
    machine = make()
    machine.attach(0)
    machine.close(3000, "Go away!", now=0)
    assert frames(machine) == [b"o", b'c[3000,"Go away!"]']


def test_interruption_closes_with_1002_and_loses_the_queue() -> None:
    machine = opened()
    send(machine, "a")
    machine.interrupt(1)
    machine.attach(2)
    assert frames(machine) == [b'c[1002,"Connection interrupted"]']


def test_interruption_of_a_closed_session_keeps_its_reason() -> None:
    machine = opened()
    machine.close(3000, "Go away!", now=0)
    machine.interrupt(1)
    machine.attach(2)
    assert frames(machine) == [b'c[3000,"Go away!"]']


# Clocks.


def test_heartbeat_after_silence() -> None:
    machine = opened()
    machine.tick(24.9)
    assert frames(machine) == []
    assert machine.deadline() == 25
    machine.tick(25)
    assert frames(machine, 25) == [b"h"]
    assert machine.deadline() == 50


def test_any_frame_postpones_the_heartbeat() -> None:
    machine = opened()
    send(machine, "a")
    assert frames(machine, 20) == [b'a["a"]']
    machine.tick(25)
    assert frames(machine) == []
    assert machine.deadline() == 45


def test_message_takes_the_place_of_a_heartbeat_that_is_due() -> None:
    machine = opened()
    machine.tick(25)
    send(machine, "a")
    assert frames(machine) == [b'a["a"]']


def test_detached_session_has_no_heartbeat_and_expires() -> None:
    machine = opened()
    machine.detach(10)
    assert machine.deadline() == 15
    for now, state in ((14.9, State.OPEN), (15, State.CLOSED)):
        machine.tick(now)
        assert machine.state is state
    assert machine.deadline() == math.inf


def test_heartbeat_owed_to_a_receiver_is_not_given_to_the_next() -> None:
    machine = opened()
    machine.tick(25)
    machine.detach(25)
    machine.attach(26)
    assert frames(machine) == []


@pytest.mark.parametrize("event", ["fail", "vanish"])
def test_heartbeat_that_is_due_is_not_written_once_nothing_more_is(event: str) -> None:
    machine = opened()
    machine.tick(25)
    machine.peer_failed(25) if event == "fail" else machine.end_now()
    assert frames(machine) == []


def test_attached_session_does_not_expire() -> None:
    machine = opened()
    machine.tick(1000)
    assert machine.state is State.OPEN


def test_session_that_was_never_attached_expires() -> None:
    machine = make()
    machine.tick(5)
    assert machine.state is State.CLOSED


def test_postponed_session_lives_as_long_again() -> None:
    machine = opened()
    machine.detach(0)
    machine.postpone(5)
    machine.tick(5)
    assert machine.state is State.OPEN
    assert machine.deadline() == 10


def test_time_in_which_nobody_was_served_does_not_count() -> None:
    machine = opened()
    machine.detach(1)
    machine.was_blocked(3, 4)
    assert machine.deadline() == 9
    machine.was_blocked(1, 10)
    assert machine.deadline() == 10


def test_time_before_the_last_response_is_not_given_back() -> None:
    for detached in (4.0, 10.0):  # within the time in which nobody was served, and at its end
        machine = opened()
        machine.detach(detached)
        machine.was_blocked(9, 10)
        assert machine.deadline() == 15


def test_asking_a_closed_session_again_does_not_keep_it() -> None:
    machine = opened()
    machine.close(3000, "Go away!", now=10)
    assert frames(machine) == [b'c[3000,"Go away!"]']
    for now in (11, 12, 13):
        machine.detach(now)
        machine.attach(now)
        assert frames(machine) == [b'c[3000,"Go away!"]']
    machine.detach(14)
    assert machine.deadline() == 15


def test_closed_session_waits_for_who_was_not_told() -> None:
    machine = opened(send_queue_limit=1 << 20)
    send(machine, "x" * FRAME_LIMIT, "y")
    machine.close(3000, "Go away!", now=0)
    machine.next_frame(0)
    machine.detach(4)
    assert machine.deadline() == 9
    machine.attach(8)
    assert frames(machine) == [b'a["y"]', b'c[3000,"Go away!"]']


def test_vanished_session_is_over() -> None:
    machine = opened()
    send(machine, "a")
    machine.end_now()
    assert machine.state is State.CLOSED
    assert frames(machine) == []


# Limits.


def test_queue_over_the_limit_does_not_take_the_message() -> None:
    machine = opened(send_queue_limit=2 * (MESSAGE_OVERHEAD + 3))
    assert send(machine, "a", "b")
    assert not send(machine, "")
    machine.overflow(0)
    assert frames(machine) == [b'c[1008,"Slow consumer"]']


def test_what_is_downstream_counts() -> None:
    machine = opened()
    machine.downstream = 950
    assert not send(machine, "a")
    machine.downstream = 900
    assert send(machine, "a")


def test_large_message_fits_when_little_is_downstream() -> None:
    machine = opened()
    machine.downstream = 250
    assert send(machine, "x" * 990)
    assert not send(machine, "y")
    machine = opened()
    machine.downstream = 251
    assert not send(machine, "x" * 990)


def test_message_that_is_alone_is_always_accepted() -> None:
    machine = opened(send_queue_limit=1)
    assert send(machine, "x" * 10_000)
    assert not send(machine, "y")


def test_frames_are_bounded() -> None:
    machine = opened(send_queue_limit=1 << 24)
    messages = ["x" * 1000] * 200
    send(machine, *messages)
    taken = frames(machine)
    assert len(taken) > 2
    assert max(map(len, taken)) < FRAME_LIMIT + 1100
    assert b"".join(taken).count(b'"' + b"x" * 1000 + b'"') == 200
    assert machine.queued == 0


def test_one_message_is_never_split() -> None:
    machine = opened(send_queue_limit=1 << 24)
    send(machine, "x" * 200_000, "y")
    assert [len(frame) for frame in frames(machine)] == [200_005, 6]


# Raw WebSocket.


def test_raw_framing_has_neither_open_frame_nor_heartbeat() -> None:
    machine = make(RAW)
    machine.attach(0)
    machine.tick(25)
    assert frames(machine) == []
    assert machine.deadline() == 50


def test_raw_messages_are_websocket_frames() -> None:
    machine = make(RAW)
    machine.attach(0)
    machine.queue(RAW.encode("a"))
    machine.queue(RAW.encode(b"\0"))
    assert frames(machine) == [b"\x81\x01a\x82\x01\0"]
    machine.queue(RAW.encode(""))
    machine.close(3000, "x", now=0)
    message, closing = frames(machine)
    assert (message, closing) == (b"\x81\x00", b'c[3000,"x"]')


@pytest.mark.parametrize(("framing", "message"), [(SOCKJS, b"x"), (SOCKJS, 1), (RAW, None)])
def test_wrong_types_say_what_to_do(framing: Framing, message: Any) -> None:
    with pytest.raises(TypeError, match=r"encode it first.*json\.dumps"):
        framing.encode(message)


# The latest message of each key.


def send_latest(machine: SessionMachine, key: str, message: str) -> bool:
    return machine.queue(SOCKJS.encode(message), key)


def test_message_replaces_the_one_of_its_key_in_its_place() -> None:
    machine = opened()
    send_latest(machine, "k", "old")
    send(machine, "b")
    send_latest(machine, "other", "c")
    send_latest(machine, "k", "new")
    assert frames(machine) == [b'a["new","b","c"]']
    assert machine.queued == 0


def test_messages_without_a_key_stay() -> None:
    machine = opened()
    send(machine, "a", "b")
    send_latest(machine, "k", "c")
    send(machine, "d")
    send_latest(machine, "k", "e")
    assert frames(machine) == [b'a["a","b","e","d"]']


def test_message_that_was_taken_is_not_replaced() -> None:
    machine = opened(send_queue_limit=1 << 20)
    size = FRAME_LIMIT - 100
    for key in "abcde":
        send_latest(machine, key, key * size)
    taken = [machine.next_frame(0) for _ in range(2)]  # two messages each
    assert [frame[3:4] for frame in taken if frame] == [b"a", b"c"]
    send_latest(machine, "a", "again")
    send_latest(machine, "e", "instead")
    assert frames(machine) == [b'a["instead","again"]']


def test_only_what_is_queued_of_a_key_counts() -> None:
    machine = opened()
    for number in range(10_000):
        assert send_latest(machine, "k", f"{number:100}")
    assert machine.queued == len(SOCKJS.encode(" " * 100)) + MESSAGE_OVERHEAD
    assert send_latest(machine, "k", "x" * 2000), "one message alone always fits"


def test_larger_message_of_a_key_must_fit_and_a_smaller_one_always_does() -> None:
    machine = opened(send_queue_limit=1000)
    send(machine, "x" * 500)
    assert send_latest(machine, "k", "y" * 100)
    queued = machine.queued
    assert not send_latest(machine, "k", "y" * 500)
    assert machine.queued == queued, "nothing has changed"
    machine.downstream = 1000
    assert send_latest(machine, "k", "y" * 100)
    assert send_latest(machine, "k", "")
    assert frames(machine) == [b'a["%b",""]' % (b"x" * 500)]


def test_keys_that_were_taken_are_forgotten() -> None:
    machine = opened(send_queue_limit=1 << 30)
    for number in range(1000):
        send_latest(machine, str(number), "x" * 1000)
        if number % 60 == 59:  # about as many as a frame takes, so the queue is never empty
            machine.next_frame(0)
    assert isinstance(machine._outbox, KeyedOutbox)
    assert len(machine._outbox.places) <= len(machine._outbox) < 200


def test_sessions_that_use_no_keys_keep_no_places() -> None:
    machine = opened()
    send(machine, "a", "b")
    assert isinstance(machine._outbox, list)
    assert not isinstance(machine._outbox, KeyedOutbox)
