"""The life of a session whose messages come in requests: that of the HTTP transports.

Requests come and go, so none of them can wait for a hook: messages are queued.  Hooks start in the
callback that brings messages, if no task runs in it, or in a callback of their own.  So neither a
message nor an idle session costs a task; see `core.hook_task` for hooks that wait.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from sockjs_aio.core.hooked_session import HookedSession
from sockjs_aio.core.hooks import Hooks
from sockjs_aio.core.inbox import Inbox
from sockjs_aio.core.session import Session
from sockjs_aio.turns import TURN, clock


class FlushedSession(HookedSession, Protocol):
    """What these hooks need of their session besides."""

    is_flush_due: bool

    def flush_held(self) -> None:
        """Write what was queued since the caller set `is_flush_due`, in this turn of the loop."""


class RequestHooks(Hooks):
    """Runs `on_open`, then `on_message` for each message, then `on_close` once.

    Transports call `start` once, and `accept` in the turns of `inbox`.

    Args:
        session: Whose hooks they are.
        receive_queue_limit: Bytes of messages that may wait.
    """

    __slots__ = ("_limit", "_inbox", "_is_due")

    _session: FlushedSession

    def __init__(self, session: FlushedSession, receive_queue_limit: int) -> None:
        super().__init__(session)
        self._limit = receive_queue_limit
        self._inbox: Inbox | None = None
        self._is_due = False  # `process` is about to be called

    @property
    def is_finished(self) -> bool:
        """For a closed session: True if no hook runs and none will be called."""
        return super().is_finished and not self._is_due

    def start(self) -> bool:
        """Have `on_open` called in the next turn of the event loop; return whether it will be.

        A second call, or one after the session's end, does nothing.
        """
        if self._opened or not self._session.is_open:
            return False
        self._resume_soon()
        return True

    @property
    def inbox(self) -> Inbox:
        """The queue for messages of requests: see `accept`."""
        if self._inbox is None:
            self._inbox = Inbox(self._limit)
        return self._inbox

    async def accept(self, messages: Sequence[str], size: int) -> bool:
        """Queue `messages` of `size` bytes in all; wait while the queue is full.

        The caller must hold `inbox.turn`.  Return False if the session was closed meanwhile; then
        nothing is queued.
        """
        if not self._session.is_open or not await self.inbox.put(messages, size):
            return False
        if messages:
            self._resume_soon()
        return True

    def takes_now(self, count: int, size: int) -> bool:
        """Tell whether `accept` would not need to wait for `count` messages; nothing changes."""
        inbox = self._inbox
        return self._session.is_open and (inbox is None or inbox.takes_now(count, size))

    def handle_now(self, messages: Sequence[str], size: int) -> None:
        """Handle `messages` at once, or when the running hook has returned.

        `takes_now` must have returned True, and no task may run.
        """
        is_idle = self._opened and not (self.is_running or self._is_due or self._inbox)
        if is_idle and len(messages) == 1:
            self._call_hooks(messages[0])  # micro-optimisation: past the inbox
            return
        self.inbox.add(messages, size)
        if not self._is_due:
            self.process()

    def process(self) -> None:
        """Call the hooks that are due until one waits, but let others run after a few milliseconds.

        No task may run.
        """
        self._is_due = False
        if not self.is_running:
            self._call_hooks()

    def _call_hooks(self, message: str | None = None) -> None:
        session = self._session
        # what the hooks send leaves at once: a flush at the end of the turn would cost a callback
        is_flush_due, session.is_flush_due = session.is_flush_due, True
        try:
            if message is not None:
                self.steps([message], 0.0)
            self._call_due()
        finally:
            if not is_flush_due:
                session.flush_held()
        if not (self.is_running or self._is_due):
            session.hooks_returned()

    def discard(self) -> None:
        """Drop the messages that were accepted and not handled yet."""
        super().discard()
        if self._inbox is not None:
            self._inbox.clear()

    def close(self) -> None:
        """The session has closed: have `on_close` called when the running hook has returned."""
        if self._inbox is not None:
            self._inbox.close()
        super().close()

    def _returned(self, name: str, result: Any, error: BaseException | None) -> None:
        super()._returned(name, result, error)
        if name == "on_open":
            self.rest()  # many clients send nothing

    def _returned_later(self, name: str, result: Any, error: BaseException | None) -> None:
        super()._returned_later(name, result, error)
        # who cancels all tasks, as `asyncio.run` does, waits for each of them: this one must not
        # wait for more work, because no connection ends this session
        self.rest()

    def _resume_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.process)

    def _call_due(self) -> None:
        if not self._opened:
            self.open_now()
        turn_ends = 0.0
        while not self.is_running:
            if self.gaps:
                self.call_gaps_now()
            elif self._inbox:
                self.steps([self._inbox.take()], 0.0)
            else:
                break
            if self._inbox:
                now = clock()
                if not turn_ends:
                    turn_ends = now + TURN
                elif now > turn_ends:
                    self._resume_soon()
                    return
        if not (self.is_running or self._session.is_open):
            self.close_now()


class RequestSession(Session):
    """A session that requests find by its id."""

    __slots__ = ()

    hooks: RequestHooks

    def begin(self) -> bool:
        """Have `on_open` called in the next turn of the event loop; return whether it will be."""
        self._machine.open()
        return self.hooks.start()

    def _make_hooks(self) -> RequestHooks:
        return RequestHooks(self, self._host.settings.receive_queue_limit)
