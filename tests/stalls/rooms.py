"""Connections and sessions for the server."""

import asyncio

from sockjs_aio import SockJSConnection, SockJSRouter, broadcast, tornado
from sockjs_aio.core.session import Session
from sockjs_aio.protocol.framing import SOCKJS
from sockjs_aio.tornado.session import ConnectionInfo
from tests.conftest import Served
from tests.fake_writer import FakeInfo, FakeWriter

SESSION = "/echo/000/session"


class Silent(SockJSConnection):
    """Takes what comes."""


async def opened(served: Served) -> None:
    assert await served.poll("/000/session") == b"o"


class Members(SockJSConnection):
    """Broadcasts what comes to all who are there."""

    all: "list[SockJSConnection]"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.all = []

    async def on_message(self, message: str | bytes) -> None:
        broadcast(self.all, message)


def fill(router: SockJSRouter, count: int, limit: int | None = None) -> list[Session]:
    """Open sessions whose receivers take all, or `limit` frames."""
    registry = router._registry
    sessions: list[Session] = []
    info = FakeInfo()
    info._headers, info._query, info.path = b"", "", "/"
    info._cookies = {}
    info._stored = {}
    for number in range(count):
        session = registry.open(f"{number}", info, SOCKJS)
        session.attach(FakeWriter(limit=limit))
        session.hooks.start()
        sessions.append(session)
    return sessions


async def empty(router: SockJSRouter) -> None:
    """Have all sessions ended without waiting for anything."""
    for session in list(router._registry._sessions):
        session.hooks.cancel()
        session.end_now()
        session.hooks_returned()
    while router.session_count:
        await asyncio.sleep(0.01)


class Tornado(tornado.SockJSConnection):
    """Broadcasts what comes to all who are there."""

    all: "list[Tornado]"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.all = []

    def on_open(self, info: ConnectionInfo) -> None:
        self.all.append(self)

    def on_message(self, message: str) -> None:
        self.broadcast(self.all, message)
