"""The server of a test: your application on a port of this machine, in the test's event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from aiohttp import web

from sockjs_aio.connection import Session as PublicSession
from sockjs_aio.connection import SockJSConnection
from sockjs_aio.core.session import Session
from sockjs_aio.server.service import services_of

MARK = "X-SockJS-Test"
"""The header by which the server knows which of the test's clients has opened a session."""


@dataclass(frozen=True)
class Opened:
    """What the server has of a client."""

    session: Session
    connection: SockJSConnection


class Server:
    """An application that is being served.

    Args:
        app: The application.
    """

    def __init__(self, app: web.Application) -> None:
        self.port: int = 0
        self.opened: dict[str, Opened] = {}
        """What clients have opened last, by their marks."""
        self._users = 0
        self._is_over = False
        self._start = asyncio.Lock()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        for service in services_of(app):
            service.registry._connect = self._noting(service.registry._connect)

    def _noting(
        self, connect: Callable[[PublicSession], SockJSConnection]
    ) -> Callable[[PublicSession], SockJSConnection]:
        def connect_and_note(session: PublicSession) -> SockJSConnection:
            connection = connect(session)
            mark = session.info.headers.get(MARK)
            if mark is not None and isinstance(session, Session):
                self.opened[mark] = Opened(session, connection)
            return connection

        return connect_and_note

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncIterator["Server"]:
        """Run while anyone uses it; after the last one, the application ends."""
        self._users += 1
        try:
            async with self._start:
                if self._is_over:
                    raise RuntimeError(
                        "this application has ended with its last client: make another one for "
                        "each test, or keep it with `async with serve(app):` around all clients"
                    )
                if not self.port:
                    await self._listen()
            yield self
        finally:
            self._users -= 1
            if not self._users and self.port:
                self._is_over = True
                await self._runner.cleanup()

    async def _listen(self) -> None:
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        except BaseException:
            self._is_over = True
            await self._runner.cleanup()  # what has started before the failure ends
            raise
        self.port = self._runner.addresses[0][1]


_SERVER = web.AppKey("sockjs_aio_test_server", Server)


def server_of(app: web.Application) -> Server:
    """Return the server of `app`; make it if `app` has none.

    Raises:
        TypeError: If `app` is not an application.
    """
    if not isinstance(app, web.Application):
        raise TypeError(f"pass the aiohttp application to be tested, not {app!r}")
    if _SERVER not in app:
        app[_SERVER] = Server(app)
    return app[_SERVER]


@contextlib.asynccontextmanager
async def serve(app: web.Application) -> AsyncIterator[str]:
    """Serve `app` for the length of the block; its value is the URL, such as ``http://127.0.0.1:1``.

    `client` does this by itself, but ends the application with its last client.  Use this if your
    clients come one after another, or if you need other requests as well.
    """
    async with server_of(app).used() as server:
        yield f"http://127.0.0.1:{server.port}"
