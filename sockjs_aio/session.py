"""One session: its machine, its receiver and its hooks.  It knows no HTTP and owns no timer.

Who calls what: a transport attaches a receiver, and the session writes frames to it as they come;
the transport tells the session when that receiver is lost.  The application's connection sends and
closes.  The registry ticks.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from sockjs_aio.close_info import EXPIRED, LOST, STALLED, UNANSWERED, CloseInfo, End, Initiator
from sockjs_aio.hooks import Hooks
from sockjs_aio.info import ConnectionInfo
from sockjs_aio.liveness import Liveness
from sockjs_aio.protocol.frames import GO_AWAY, SLOW_CONSUMER, CloseFrame
from sockjs_aio.protocol.framing import Framing, Outgoing
from sockjs_aio.protocol.machine import CLOSED, CLOSING, OPEN, SessionMachine
from sockjs_aio.receiver import Receiver
from sockjs_aio.settings import Settings

if TYPE_CHECKING:
    from sockjs_aio.channels import Channels
    from sockjs_aio.connection import SockJSConnection
    from sockjs_aio.registry import SessionRegistry, Slot

logger = logging.getLogger("sockjs_aio")


class Session:
    """One client's session, from its first request to its `on_close`.

    Args:
        session_id: As in the URL.
        info: About the request that opened it.
        registry: Where it is kept.
        framing: How its messages become frames.
    """

    __slots__ = (
        "id",
        "info",
        "connection",
        "hooks",
        "due_slot",
        "close_info",
        "_registry",
        "_framing",
        "_machine",
        "_receiver",
        "_liveness",
        "_is_scheduled",
        "_born",
        "_room",
        "__weakref__",
    )

    connection: "SockJSConnection"

    def __init__(
        self, session_id: str, info: ConnectionInfo, registry: "SessionRegistry", framing: Framing
    ) -> None:
        settings: Settings = registry.settings
        now = self._born = registry.now()
        self.id = session_id
        self.info = info
        self.hooks = Hooks(self, settings.receive_queue_limit)
        self.due_slot: Slot | None = None  # the registry's note of where it is armed
        self.close_info: CloseInfo | None = None
        self._registry = registry
        self._framing = framing
        self._machine = SessionMachine(
            framing,
            heartbeat_delay=settings.heartbeat_delay,
            disconnect_delay=settings.disconnect_delay,
            send_queue_limit=settings.send_queue_limit,
            now=now,
        )
        # where frames go, and whether there is somebody to take them
        self._receiver: Receiver | None = None
        self._liveness = Liveness(settings.heartbeat_delay)
        self._is_scheduled = False
        # who waits in drain()
        self._room: asyncio.Future[None] | None = None

    def __str__(self) -> str:
        return f"{self.id[:4]}… ({self.info.transport})"

    def __repr__(self) -> str:
        return f"<Session {self} {self._machine!r}>"

    # For the connection.

    @property
    def transport(self) -> str:
        """The name of the transport that opened the session."""
        return self.info.transport

    @property
    def channels(self) -> "Channels":
        """The subscriptions of the router's sessions, this one's among them."""
        return self._registry.channels

    @property
    def is_open(self) -> bool:
        """Whether messages are accepted, in both directions."""
        return self._machine.state is OPEN

    @property
    def is_closed(self) -> bool:
        """Whether the session has been closed, by whomever."""
        return self._machine.state in (CLOSING, CLOSED)

    def send(self, message: str | bytes) -> None:
        """Queue `message`; it leaves at the end of this turn of the loop.

        Raises:
            TypeError: If the session's transport cannot carry a message of this type.
        """
        if self._machine.is_accepting:
            self._queue(self._framing.encode(message))

    def send_shared(self, message: Outgoing) -> None:
        """As `send`, for a message that goes to many sessions and is encoded once."""
        if self._machine.is_accepting:
            self._queue(message.encoded(self._framing))

    def send_json(self, text: str) -> None:
        """As `send`, for JSON text that goes out as the value it stands for, not as a string.

        The protocol knows only strings; sockjs-client hands on whatever the frame has.
        """
        if self._machine.is_accepting:
            self._queue(self._framing.encode_json(text))

    async def drain(self) -> None:
        """Wait until no more than a quarter of `send_queue_limit` is queued, or it is closed."""
        while self.is_open and self._is_crowded():
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def close(
        self,
        code: int = GO_AWAY[0],
        reason: str = GO_AWAY[1],
        initiator: Initiator = "server",
    ) -> None:
        """Close the session: queued messages go out first, messages not yet handled are dropped."""
        self._registry.thread.check()
        if self._machine.close(code, reason, now=self._registry.now()):
            self.hooks.discard()
            self._has_closed((code, reason, initiator))
        elif initiator == "server":  # a lost client's messages are not wanted any more either
            self.hooks.discard()

    # For transports.

    def attach(self, receiver: Receiver) -> None:
        """Write to `receiver` from now on, and at once what is queued, as far as it takes it.

        Raises:
            ReceiverConflict: If there is a receiver already, and it is alive.
        """
        if self._is_scheduled:  # what the present receiver is owed may end it
            self.flush()
        if self._receiver is not None and self._receiver.is_left:
            self.lose(self._receiver)
        elif self._receiver is None and self._liveness.is_delivering:
            self._liveness.abort_response()  # its client has not waited for the end of that
            self._interrupt(LOST)
        now = self._registry.now()
        self._machine.attach(now)
        self._receiver = receiver
        self._liveness.attach(receiver, now)
        if not receiver.is_full:  # or its response has not begun
            self.flush(now)
        self._registry.arm(self)

    def lose(self, receiver: Receiver, end: End = LOST) -> None:
        """The connection of `receiver` was lost to the network: close the session.

        That is so too when the session had let go of it and nobody has come since: then what it
        was given has not arrived.
        """
        is_last = self._receiver is None and self._liveness.is_of(receiver)
        if self._receiver is receiver or is_last:
            receiver.release()
            self._interrupt(end)

    def fail(self, end: End) -> None:
        """The peer has left, or broken the protocol: write nothing more; its connection ends now.

        That is the transport's work, and if it does not happen within `disconnect_delay`, ours.
        What it sent before it left is handled, as over HTTP.
        """
        was_open = self.is_open
        self._machine.fail(self._registry.now())
        if end[2] == "error":
            self.hooks.discard()
        if was_open:
            self._has_closed(end)

    def vanish(self) -> None:
        """End the session at once: it lives as long as its WebSocket, and that has ended."""
        was_open = self.is_open
        self._receiver = None
        self._machine.vanish()
        if was_open:
            self._has_closed(LOST)

    @property
    def has_http_receiver(self) -> bool:
        """Whether a request of the session waits for frames, or a stream takes them."""
        return self._receiver is not None and self._receiver.is_http

    def receiver_changed(self) -> None:
        """The receiver takes frames again after it was full, or its connection is lost.

        Somebody may be waiting in `drain` for either.
        """
        receiver = self._receiver
        if receiver is None or receiver.is_alive:
            self.flush()
        elif receiver.is_http:
            self.lose(receiver)
        else:
            self.fail(LOST)

    def flush(self, now: float | None = None) -> None:
        """Write what is queued, as far as the receiver takes it, at the time `now`."""
        self._is_scheduled = False
        receiver, machine = self._receiver, self._machine
        if receiver is None:
            return
        if now is None:
            now = self._registry.now()
        written = receiver.delivery.written
        while not receiver.is_full:
            frame = machine.next_frame(now)
            if frame is None:
                break
            receiver.write(frame)
            if machine.queued:  # more than one frame takes: whether this leaves decides on the rest
                receiver.flush()
            elif not machine.close_due:
                break
        machine.downstream = receiver.flush()
        if receiver.is_done:
            self._let_go(receiver)
        elif receiver.is_http and receiver.delivery.written > written and self.is_open:
            self._liveness.expect(now)
        if self._room is not None and not self._is_crowded():
            self._announce_room()

    def end_response(self) -> None:
        """End the response that receives now, if there is one: the client asks for another."""
        self.flush()
        receiver = self._receiver
        if receiver is not None and receiver.is_http:
            receiver.conclude()
            self._let_go(receiver)

    # For the registry.

    def deadline(self) -> float:
        """Return the time at which `tick` has something to do."""
        return min(self._machine.deadline(), self._liveness.due)

    def tick(self, now: float) -> None:
        """Do what is due: a heartbeat, a ping, or the end of the session."""
        receiver, machine = self._receiver, self._machine
        if receiver is not None and now >= self._liveness.due:
            self._probe(receiver, now)
        if now < machine.deadline():
            if receiver is not None:
                receiver.flush()  # a ping, if it does not leave with a heartbeat
            return
        was_open = self.is_open
        if not (was_open and receiver) and self._liveness.is_in_touch():
            machine.postpone(now)
            return
        machine.tick(now)
        if machine.state is CLOSED:
            self._expire(was_open, receiver)
        else:
            self.flush(now)

    def hooks_returned(self) -> None:
        """No hook runs now: if the session is over, forget it."""
        self._registry.closing.session_changed()
        if self._machine.state is CLOSED and self.hooks.is_finished:
            self._registry.forget(self)

    @property
    def is_told(self) -> bool:
        """Whether nobody is owed the close frame: it was written, or the session has expired."""
        return self._machine.is_told

    @property
    def told_at(self) -> float | None:
        """When the close frame was written, on the loop's clock; None if it was not."""
        return self._machine.told_at

    @property
    def is_awaited(self) -> bool:
        """Whether what was written last is still on its way to the client, and not lost."""
        return self._liveness.is_awaited

    @property
    def close_frame(self) -> CloseFrame | None:
        """What later receiving requests get; None unless the session was closed with a frame."""
        return self._machine.close_frame

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done for a closed session but to answer later requests."""
        is_left_alone = self._receiver is None and not self._liveness.is_delivering
        return self.is_closed and is_left_alone and self.hooks.is_finished

    def abort(self) -> None:
        """End the session now: cancel its hook, cut its connection."""
        self.hooks.cancel()
        if self._receiver is not None:
            self._receiver.abort()
        else:
            self._liveness.abort_response()

    def delivered(self) -> None:
        """The end of a response has left: somebody may wait for that in order to shut down."""
        self._registry.closing.session_changed()

    def unbind(self) -> None:
        """Break the reference cycles of a session that is over."""
        self.hooks.unbind()
        del self.connection

    # Inside.

    def _queue(self, piece: bytes) -> None:
        if self._registry.thread.is_debug:
            self._registry.thread.check()
        if not self._is_scheduled and self._receiver is not None:
            self._registry.flusher.schedule(self)
            self._is_scheduled = True
        if not (self._machine.queue(piece) or self._queue_again(piece)):
            self._overflow()

    def _queue_again(self, piece: bytes) -> bool:
        """Queue `piece` if what was downstream at the last flush has made room since."""
        if self._receiver is not None:
            self._machine.downstream = self._receiver.buffered
        return self._machine.queue(piece)

    def _is_crowded(self) -> bool:
        machine = self._machine
        return (machine.queued + machine.downstream) * 4 > self._registry.settings.send_queue_limit

    def _announce_room(self) -> None:
        if self._room is not None:
            room, self._room = self._room, None
            room.set_result(None)

    def _overflow(self) -> None:
        self._machine.overflow(self._registry.now())
        self.hooks.discard()
        self._has_closed((*SLOW_CONSUMER, "overflow"))
        if self._receiver is not None and self._receiver.is_full:
            self._receiver.abort()  # no close frame could get through

    def _has_closed(self, end: End) -> None:
        seconds = self._registry.now() - self._born
        self.close_info = CloseInfo(*end, seconds, self.info.transport)
        level = logging.WARNING if self.close_info.initiator == "overflow" else logging.INFO
        self.hooks.log(level, "session %s: closed (%s)", self, self.close_info)
        self._liveness.rest()
        self._registry.channels.leave(self)
        self._announce_room()
        self._registry.arm(self)
        self.hooks.close()
        if self._machine.close_due and not self._is_scheduled:
            self._registry.flusher.schedule(self)
            self._is_scheduled = True

    def _interrupt(self, end: End) -> None:
        was_open = self.is_open
        self._receiver = None
        self._liveness.forget()
        self._machine.interrupt(self._registry.now())
        if was_open:
            self._has_closed(end)
        self._registry.arm(self)

    def _let_go(self, receiver: Receiver) -> None:
        self._receiver = None
        self._liveness.rest()
        self._machine.detach(self._registry.now())
        receiver.release()
        self._registry.arm(self)

    def _probe(self, receiver: Receiver, now: float) -> None:
        is_busy = self.hooks.is_running
        if not receiver.is_http and not receiver.is_alive:
            if is_busy:  # otherwise it is just about to be read
                self.fail(LOST)
        elif self._liveness.ask(receiver, is_busy, now):
            return
        elif receiver.is_http:
            receiver.abort()
            self.lose(receiver, STALLED)
        else:
            self.fail(STALLED if receiver.is_full else UNANSWERED)
            receiver.abort()

    def _expire(self, was_open: bool, receiver: Receiver | None) -> None:
        if receiver is not None:  # a closed session whose client takes nothing any more
            self._receiver = None
            receiver.abort()
            receiver.release()
        else:  # there may be a last response that nobody takes
            self._liveness.abort_response()
        self._liveness.forget()
        self._registry.retire(self)
        if was_open:
            self._has_closed(EXPIRED)
        self.hooks_returned()
