"""Two servers that differ only in who answers handshakes, and conversations that begin with one.

They compare what comes back, and also what the application is told.
"""

import asyncio
import contextvars
import math
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, Session, SockJSConnection
from sockjs_aio.core.events import Observer
from sockjs_aio.server import websocket_connection
from tests.certificate import contexts, make_certificate
from tests.direct_bytes import browser_handshake
from tests.twins import DIFFERS, QUIET, Contexts, Twin, Twins

PLACES: contextvars.ContextVar[str] = contextvars.ContextVar("PLACES", default="nowhere")


class Noted(Observer):
    """Notes what a service is told."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def opened(self, session: Session) -> None:
        self.notes.append(("opened", session.info.transport, PLACES.get(), has_task()))

    def refused(self, reason: str, transport: str, ip: str | None) -> None:
        self.notes.append(("refused", reason, transport, ip))


class Member(SockJSConnection):
    """Notes what it is told, sends every message back, and closes when told so."""

    def __init__(self, session: Session, notes: list[Any]) -> None:
        super().__init__(session)
        self.notes = notes
        notes.append(("made", PLACES.get(), has_task()))
        PLACES.set("in the constructor")

    async def on_open(self, info: ConnectionInfo) -> None:
        self.notes.append((info.transport, info.ip, info.path, info.identity, info.protocol))
        self.notes += [list(info.headers.items()), list(info.query.items()), dict(info.cookies)]
        self.notes += [dict(info), info.until, type(info.app).__name__, PLACES.get()]

    async def on_message(self, message: str | bytes) -> None:
        self.notes.append(message)
        self.send(message)
        if message == "close":
            self.close(3001, "as you wish")

    async def on_close(self) -> None:
        info = self.close_info
        assert info is not None
        self.notes.append((info.code, info.reason, info.initiator))


def has_task() -> bool:
    """Tell whether there is a current task, as asyncio's and other libraries' functions need."""
    return asyncio.current_task() is not None


class HandshakeTwin(Twin):
    """A server that has served one handshake of each kind."""

    def __init__(self, direct_requests: bool, tls: Contexts | None = None) -> None:
        self.seen = Noted()
        super().__init__(
            direct_requests,
            lambda session: Member(session, self.seen.notes),
            observers=[self.seen],
            tls=tls,
        )

    async def start(self) -> None:
        PLACES.set("where the server was started")
        await super().start()
        for path in ("/echo/000/learnt/websocket", "/echo/websocket"):
            await self._exchange([browser_handshake(path)], "leave")

    async def talk(self, session_id: str, pieces: Sequence[bytes], ending: str) -> bytes:
        """Write `pieces` to a new connection, let it end; return what came, and all notes."""
        server = self.runner.server
        assert server is not None
        before = server.requests_count
        answer = await self._exchange(pieces, ending)
        notes = [*self.seen.notes, server.requests_count - before, self.router.stats.opened]
        self.seen.notes.clear()
        return answer + repr(notes).encode()

    async def _exchange(self, pieces: Sequence[bytes], ending: str) -> bytes:
        client = await self.connect()
        for piece in pieces:
            client.transport.write(piece)
            await asyncio.sleep(QUIET)
        registry = self.router._registry
        for session in list(registry._sessions):
            session.send("pushed")
        await asyncio.sleep(QUIET)
        await client.end(ending)
        for session in list(registry._sessions):
            session.close(4001, "the end")
        await asyncio.sleep(30)  # until nothing waits for the rest of a body
        has_ended = client.has_ended
        client.transport.abort()
        await self.expire()
        assert self.runner.server is not None
        # aiohttp may still wait for the rest of a body
        assert all(type(one) is web.RequestHandler for one in self.runner.server.connections)
        return DIFFERS.sub(b"", bytes(client.received)) + (b"!" if has_ended else b"")


@pytest.fixture(scope="module")
def handshake_twins() -> Iterator[Twins]:
    """Two servers for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        answer_alike(patch)
        made = new_handshake_twins()
        yield made
        made.stop()


@pytest.fixture(scope="module")
def tls_handshake_twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Two servers that speak TLS."""
    tls = contexts(make_certificate(tmp_path_factory.mktemp("certificate")))
    with pytest.MonkeyPatch.context() as patch:
        answer_alike(patch)
        made = new_handshake_twins(tls)
        yield made
        made.stop()


def new_handshake_twins(tls: Contexts | None = None) -> Twins:
    """Make them; they are alike while `answer_alike` has been called."""
    return Twins(HandshakeTwin(True, tls), HandshakeTwin(False, tls))


def answer_alike(patch: pytest.MonkeyPatch) -> None:
    """Make servers answer alike until `patch` is undone."""
    patch.setattr(secrets, "randbits", lambda _: 7)  # what /info answers
    patch.setattr(websocket_connection, "TURN", math.inf)  # that is of real time
