"""Tells a session whether the response to a receiving request was delivered."""

import asyncio

from aiohttp import web

from sockjs_aio.core.frame_writer import FrameWriter
from sockjs_aio.core.session import Session
from sockjs_aio.server.aiohttp_internals import handling_task
from sockjs_aio.server.client_loss import ClientConnection
from sockjs_aio.server.connection_writer import HIGH_WATER


class ResponseOutcome:
    """Tells a session, once, whether a response was delivered to its client.

    The outcome is settled by the end of the request at the latest, because a middleware may fail
    after its handler, or send another response.  Afterwards this drops its reference to the
    session: aiohttp keeps a response until the next one on the connection, perhaps for hours.
    """

    __slots__ = ("is_read", "_session", "_writer", "_connection")

    def __init__(
        self, session: Session, writer: FrameWriter, connection: ClientConnection | None
    ) -> None:
        self.is_read: bool = False
        """Whether a middleware has read the body and may send a copy of it."""
        self._session: Session | None = session
        self._writer: FrameWriter | None = writer
        self._connection = connection

    def watch(self, request: web.Request) -> None:
        """Settle the outcome when `request` ends, whatever a middleware does with the response."""
        handling_task(request).add_done_callback(self._request_done)

    @property
    def is_kept(self) -> bool:
        """Whether much of the written data has not left the process."""
        return self._writer is not None and self._writer.delivery.is_kept(HIGH_WATER)

    async def passes_on(self) -> None:
        """Wait until most of the written data has left; over TLS, aiohttp does not wait for that.

        Raises:
            ConnectionResetError: If the connection is lost in the meantime.
        """
        if self._writer is not None:
            await self._writer.delivery.passes_on(HIGH_WATER)
            if not self._writer.is_alive:
                raise ConnectionResetError("the connection is lost")

    def written(self) -> None:
        """Note that asyncio gets the end of the response in this turn of the event loop."""
        if self._writer is not None:
            self._writer.delivery.is_written = True

    def succeeded(self) -> None:
        """Note that the response has left, as far as this process can tell."""
        if self._session is not None and self._writer is not None:
            self._writer.delivery.finish()
            if self._connection is not None:
                self._connection.response_ended(self._writer.delivery)
            self._session.delivered()
        self._session = self._writer = self._connection = None

    def failed(self) -> None:
        """Note that the response cannot be written: the session loses its client."""
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
