"""The life of a session: how it opens, what happens when its client comes and goes, how it ends.

A transport attaches a frame writer, the session writes frames to it, and the transport tells the
session when that connection is lost.  The application's connection calls `send` and `close`, and
the registry's clock calls `tick`.  It knows nothing about HTTP, and has no timer and no task.

A session ends in one of these ways, and each calls `_has_closed` exactly once: `close` (by the
application, at shutdown, or at its `_lifetime`'s end), `peer_failed` and `end_now` (its WebSocket),
`connection_lost` (of HTTP), `_overflow` (the client does not read), `_expire` (it does not ask).
"""

import abc
import contextvars
from typing import Protocol

from sockjs_aio.core.events import Observer
from sockjs_aio.core.frame_writer import FrameWriter
from sockjs_aio.core.hooks import Hooks
from sockjs_aio.core.lifetime import extended, new_lifetime
from sockjs_aio.core.message_rate import Pace, new_pace
from sockjs_aio.core.sending_session import SendingHost
from sockjs_aio.core.session_clock import Slot
from sockjs_aio.core.subscribed_session import SubscribedSession
from sockjs_aio.errors import ReceiverConflictError
from sockjs_aio.grant import Until
from sockjs_aio.protocol.ends import (
    EXPIRED,
    GO_AWAY,
    LOST,
    SLOW_CONSUMER,
    STALLED,
    UNANSWERED,
    End,
    Initiator,
)
from sockjs_aio.protocol.frames import CloseFrame
from sockjs_aio.protocol.framing import Framing
from sockjs_aio.protocol.session_state import CLOSED, OPEN
from sockjs_aio.session_info import CloseInfo, ConnectionInfo


class Host(SendingHost, Protocol):
    """What a session needs of its registry."""

    def arm(self, session: "Session") -> None:
        """Tick `session` at its deadline."""

    def session_changed(self) -> None:
        """A session may have ended; a shutdown or drain may wait for that."""

    def retire(self, session: "Session") -> None:
        """Hide `session`, which has ended, from requests."""

    def forget(self, session: "Session") -> None:
        """Remove `session`, which has ended."""


class Session(SubscribedSession):
    """One client's session, from its first request to its `on_close`.

    Args:
        session_id: The id, as in the URL.
        info: About the request that opened the session.
        host: The registry that keeps the session.
        framing: How messages become frames.
    """

    __slots__ = ("hooks", "pace", "due_slot", "_born", "__weakref__")

    close_info: CloseInfo | None
    _host: Host

    def __init__(self, session_id: str, info: ConnectionInfo, host: Host, framing: Framing) -> None:
        super().__init__(session_id, info, host, framing)
        self.hooks: Hooks = self._make_hooks()
        self.pace: Pace | None = new_pace(host.settings)
        self.due_slot: Slot | None = None  # the clock's slot that the session is in
        self._born = host.now()
        self._lifetime = new_lifetime(host.settings.max_session_age, info.until, self._born)

    def __str__(self) -> str:
        return f"{self.id[:4]}… ({self.info.transport})"

    def __repr__(self) -> str:
        return f"<Session {self} {self._machine!r}>"

    @property
    def context(self) -> contextvars.Context:
        """The context (`contextvars`) in which the hooks of this session run."""
        return self.hooks.context

    @property
    def has_waiting_hook(self) -> bool:
        """Whether a hook has begun and not returned."""
        return self.hooks.is_running

    @property
    def is_cut_off(self) -> bool:
        """True if the server is shutting down and has cancelled the running hook."""
        return self.hooks.is_cancelled

    def close(
        self,
        code: int = GO_AWAY.code,
        reason: str = GO_AWAY.reason,
        initiator: Initiator = "server",
    ) -> None:
        """Close the session: send queued messages first, and drop messages not handled yet."""
        self._host.thread.check()
        if self._machine.close(code, reason, now=self._host.now()):
            self.hooks.discard()
            self._has_closed(End(code, reason, initiator))
        elif initiator == "server":  # the application no longer wants a lost client's messages
            self.hooks.discard()

    def extend(self, until: Until) -> None:
        """Change the time until which the client is authorized."""
        self._host.thread.check()
        if not self.is_closed:
            self._lifetime = extended(self._lifetime, until, self._host.now())
            self._host.arm(self)

    # For transports.

    def attach(self, writer: FrameWriter) -> None:
        """Write to `writer` from now on, starting with what is queued.

        Raises:
            ReceiverConflictError: If there is another writer and its client is still there.
        """
        if self.is_flush_due:  # writing what is due may end the present writer's response
            self.flush()
        if self._writer is not None and self._writer.is_left:
            self.connection_lost(self._writer)
        elif self._writer is None and self._liveness.is_delivering:
            self._liveness.abort_response()  # the client did not wait for the end of the last one
            self._interrupt(LOST)
        now = self._host.now()
        try:
            self._machine.attach(now)
        except ReceiverConflictError:
            info = self.info
            self.hooks.tell(Observer.refused, "another_connection", info.transport, info.ip)
            raise
        self._writer = writer
        self._liveness.attach(writer, now)
        if not writer.is_full:  # it is full also while its response has not begun
            self.flush(now)
        self._host.arm(self)

    def connection_lost(self, writer: FrameWriter, end: End = LOST) -> None:
        """The connection of `writer` was lost: close the session.

        This also holds if `writer` was released already and no other request has come since,
        because then what was written has not arrived.
        """
        is_last = self._writer is None and self._liveness.is_of(writer)
        if self._writer is writer or is_last:
            self._interrupt(end)
            writer.release()  # not earlier: a direct response then reports its end itself

    def peer_failed(self, end: End) -> None:
        """The client has left or broken the protocol: close the session and write nothing more.

        The transport ends the connection; if it has not done so after `disconnect_delay`, the
        session does.  If the client left, messages that it sent before are still handled.
        """
        was_open = self.is_open
        self._machine.peer_failed(self._host.now())
        if end.initiator == "error":
            self.hooks.discard()
        if was_open:
            self._has_closed(end)

    def end_now(self) -> None:
        """End the session at once, because its WebSocket has ended."""
        was_open = self.is_open
        self._writer = None
        self._machine.end_now()
        if was_open:
            self._has_closed(LOST)

    def writer_changed(self) -> None:
        """The writer takes frames again, or its connection is lost; `drain` may wait for either."""
        writer = self._writer
        if writer is None or writer.is_alive:
            self.flush()
        elif writer.is_http:
            self.connection_lost(writer)
        else:
            self.peer_failed(LOST)

    def delivered(self) -> None:
        """The end of a response has left; a shutdown or drain may wait for that."""
        self._host.session_changed()

    # For the registry.

    def deadline(self) -> float:
        """Return the time at which `tick` has something to do."""
        due = min(self._machine.deadline(), self._liveness.due)
        return due if self._lifetime is None else min(due, self._lifetime.due)

    def tick(self, now: float) -> None:
        """Do what is due: a heartbeat, a ping, or the end of the session."""
        self.hooks.rest()
        if self._lifetime is not None and now >= self._lifetime.due:
            self.close(*self._lifetime.end(now))
            return
        writer, machine = self._writer, self._machine
        if writer is not None and now >= self._liveness.due:
            self._probe(writer, now)
        was_open = machine.state is OPEN
        is_beating = was_open and writer is not None
        if not is_beating and now >= machine.deadline() and self._liveness.is_in_touch():
            machine.postpone(now)
        elif not machine.tick(now):
            if writer is not None:
                writer.flush()  # send the ping, unless a heartbeat follows and takes it along
        elif machine.state is CLOSED:
            self._expire(was_open, writer)
        else:
            self.flush(now)

    def was_blocked(self, seconds: float) -> None:
        """The event loop was blocked: a client that could not be heard gets that time again."""
        self._machine.was_blocked(seconds, self._host.now())

    def hooks_returned(self) -> None:
        """No hook runs now: if the session has ended, forget it."""
        self._host.session_changed()
        if self._machine.state is CLOSED and self.hooks.is_finished:
            self._host.forget(self)

    @property
    def is_told(self) -> bool:
        """True once the close frame was written, or nobody can ask for it any more."""
        return self._machine.is_told

    @property
    def told_at(self) -> float | None:
        """When the close frame was written, on the loop's clock; None if it was not written."""
        return self._machine.told_at

    @property
    def is_awaited(self) -> bool:
        """True while what was written last is still on its way to the client."""
        return self._liveness.is_awaited

    @property
    def close_frame(self) -> CloseFrame | None:
        """The frame that later receiving requests get; None if the session has no close frame."""
        return self._machine.close_frame

    @property
    def is_over(self) -> bool:
        """True if the session is closed, its hooks are done, and nothing is being written."""
        is_left_alone = self._writer is None and not self._liveness.is_delivering
        return self.is_closed and is_left_alone and self.hooks.is_finished

    def abort(self) -> None:
        """End the session now: cancel its hook and cut its connection."""
        self.hooks.cancel()
        if self._writer is not None:
            self._writer.abort()
        else:
            self._liveness.abort_response()

    def break_cycles(self) -> None:
        """Break the reference cycles of a session that has ended."""
        self.hooks.break_cycles()
        del self.connection

    # Inside.

    @abc.abstractmethod
    def _make_hooks(self) -> Hooks:
        """Make what calls the hooks: it depends on where messages come from."""

    def _overflow(self) -> None:
        self.hooks.tell(Observer.overflowed, self)
        self._machine.overflow(self._host.now())
        self.hooks.discard()
        self._has_closed(SLOW_CONSUMER)
        if self._writer is not None and self._writer.is_full:
            self._writer.abort()  # a close frame could not get through

    def _has_closed(self, end: End) -> None:
        seconds = self._host.now() - self._born
        self.close_info = CloseInfo(*end, seconds, self.info.transport)
        self.hooks.tell(Observer.closed, self, self.close_info)
        self._lifetime = None
        self._liveness.rest()
        self._host.channels.leave(self)
        self._announce_room()
        if self.pace is not None:
            self.pace.release()
        self._host.arm(self)
        self.hooks.close()
        if self._machine.close_due and not self.is_flush_due:
            self._host.flusher.schedule(self)
            self.is_flush_due = True

    def _interrupt(self, end: End) -> None:
        was_open = self.is_open
        self._writer = None
        self._liveness.forget()
        self._machine.interrupt(self._host.now())
        if was_open:
            self._has_closed(end)
        self._host.arm(self)

    def _let_go(self, writer: FrameWriter, now: float) -> None:
        self._writer = None
        self._liveness.rest()
        self._machine.detach(now)
        writer.release()
        self._host.arm(self)

    def _probe(self, writer: FrameWriter, now: float) -> None:
        is_busy = self.hooks.is_running or (self.pace is not None and self.pace.is_holding)
        if not writer.is_http and not writer.is_alive:
            if is_busy:  # otherwise, the reader is about to notice the loss
                self.peer_failed(LOST)
            return
        if self._liveness.ask(writer, is_busy, now):
            return
        self.hooks.tell(Observer.unanswered, self)
        if writer.is_http:
            writer.abort()
            self.connection_lost(writer, STALLED)
        else:
            self.peer_failed(STALLED if writer.is_full else UNANSWERED)
            writer.abort()

    def _expire(self, was_open: bool, writer: FrameWriter | None) -> None:
        if writer is not None:  # a closed session whose client no longer reads
            self._writer = None
            writer.abort()
            writer.release()
        else:  # the client may not read the last response
            self._liveness.abort_response()
        self._liveness.forget()
        self._host.retire(self)
        if was_open:
            self._has_closed(EXPIRED)
        self.hooks_returned()
