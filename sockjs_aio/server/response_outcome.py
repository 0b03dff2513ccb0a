"""How the response of a receiving request ended, for its session."""

import asyncio

from aiohttp import web

from sockjs_aio.core.frame_writer import FrameWriter
from sockjs_aio.core.session import Session
from sockjs_aio.server.client_loss import ClientConnection
from sockjs_aio.server.connection_writer import HIGH_WATER


class ResponseOutcome:
    """Tells a session, once, whether its client could be given a response.

    What belongs to a response ends with the request, though a middleware may have failed after its
    handler, or answered with something else.  aiohttp keeps responses until there is another one on
    the connection, for hours perhaps: so this lets go of the session.
    """

    __slots__ = ("is_read", "_session", "_writer", "_connection")

    def __init__(
        self, session: Session, writer: FrameWriter, connection: ClientConnection | None
    ) -> None:
        self.is_read = False
        """Whether somebody has looked into the response: what it says may go out in a copy."""
        self._session: Session | None = session
        self._writer: FrameWriter | None = writer
        self._connection = connection

    def watch(self, request: web.Request) -> None:
        """End it with `request`, whatever a middleware does with the response."""
        _task_of(request).add_done_callback(self._request_done)

    @property
    def is_kept(self) -> bool:
        """Whether much of what was written has not left."""
        return self._writer is not None and self._writer.delivery.is_kept(HIGH_WATER)

    async def passes_on(self) -> None:
        """Wait until most of what was written has left: over TLS, aiohttp has not.

        Raises:
            ConnectionResetError: If the connection is lost meanwhile.
        """
        if self._writer is not None:
            await self._writer.delivery.passes_on(HIGH_WATER)
            if not self._writer.is_alive:
                raise ConnectionResetError("the connection is lost")

    def succeeded(self) -> None:
        """It has left, as far as this process can tell."""
        if self._session is not None and self._writer is not None:
            self._writer.delivery.finish()
            if self._connection is not None:
                self._connection.response_ended(self._writer.delivery)
            self._session.delivered()
        self._session = self._writer = self._connection = None

    def failed(self) -> None:
        """It cannot be written."""
        if self._session is not None and self._writer is not None:
            self._session.connection_lost(self._writer)
        self.succeeded()

    def _request_done(self, _task: "asyncio.Future[object]") -> None:
        if self._writer is not None and self._connection is not None:
            self._connection.request_done(self._writer.delivery)
        if self._writer is not None and self.is_read and self._writer.is_alive:
            self.succeeded()
        else:
            self.failed()


def _task_of(request: web.Request) -> "asyncio.Future[object]":
    """Return the task that answers `request`, which writes the response too.

    A middleware may run its handler in a task of its own, which ends before that: for a time-out,
    with `asyncio.wait_for` before Python 3.12, or in `asyncio.shield`.  aiohttp's is what the
    connection's waits for, unless that has not begun to (eager tasks, Python 3.12).
    """
    waited_for = getattr(request.task, "_fut_waiter", None)
    task = waited_for if asyncio.isfuture(waited_for) else asyncio.current_task()
    assert task is not None, "a request is handled by a task"
    return task
