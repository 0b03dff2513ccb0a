"""Two servers that differ only in the direct lane get the same bytes; what comes back is compared.

They are in this process, on a loop whose time passes only when nobody has anything to do, so that
both servers have done all they can before the next piece of a conversation comes.
"""

import asyncio
import itertools
import logging
import re
import secrets
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import Session, SockJSConnection, SockJSRouter
from sockjs_aio.core.events import Observer
from tests.certificate import contexts, make_certificate
from tests.virtual_loop import VirtualLoop

QUIET = 0.001
"""Seconds of the loop's time: they pass when nobody has anything to do any more."""

AT_ONCE = 50
"""Conversations that are held side by side."""

ENDINGS = ("close", "leave", "half")
"""How a conversation ends: the session is closed, or its client leaves, or ends its half."""

SETTINGS: dict[str, Any] = {
    "response_limit": 300,
    "disconnect_delay": 5,
    "ended_session_delay": 30,  # in the next conversation, nothing is known of this one
}
"""Settings of all twins."""

RARE = 5
"""Seconds between two ticks: there is half a minute in which nobody speaks."""

DIFFERS = re.compile(rb"(?<=\r\nDate: )[^\r]*|(?<=\r\nExpires: )[^\r]*")
"""What differs between any two answers."""
_numbers = itertools.count()


class Member(SockJSConnection):
    """Sends every message back, and closes when told so."""

    async def on_message(self, message: str | bytes) -> None:
        self.send(message)
        if message == "close":
            self.close(3001, "as you wish")


class Client(asyncio.Protocol):
    """Sends what it is told, and keeps what comes."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()
        self.has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended = True

    async def end(self, ending: str) -> None:
        """End the connection so, unless the session is to be closed."""
        if ending == "leave":
            self.transport.abort()
        elif ending == "half":
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:  # TLS says that it ends
                self.transport.close()
        await asyncio.sleep(QUIET)


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
"""Of a server and its clients."""


class Twin:
    """A server with direct lanes, or without."""

    def __init__(
        self,
        direct_requests: bool,
        connect: Callable[[Session], SockJSConnection] = Member,
        observers: Sequence[Observer] = (),
        tls: Contexts | None = None,
    ) -> None:
        server_tls, client_tls = tls or (None, None)
        self._server_tls: ssl.SSLContext | None = server_tls
        self._client_tls: ssl.SSLContext | None = client_tls
        app = web.Application()
        self.router = SockJSRouter(
            connect,
            "/echo",
            SETTINGS,
            direct_requests=direct_requests,
            session_check_interval=RARE,
            observers=observers,
        )
        self.router.attach(app)
        log = logging.Logger("aiohttp")  # nobody need read what it says of these requests
        log.addHandler(logging.NullHandler())
        self.runner = web.AppRunner(app, access_log=None, logger=log)

    async def start(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=self._server_tls).start()

    async def stop(self) -> None:
        await self.runner.cleanup()

    @property
    def routers(self) -> list[SockJSRouter]:
        """All that may have the session of a conversation."""
        return [self.router]

    async def talk(self, session_id: str, pieces: Sequence[bytes], ending: str) -> bytes:
        """Open a session, write `pieces` one by one, let it end; return what came back."""
        client = await self.connect()
        for piece in (*greeting(session_id), *pieces):
            client.transport.write(piece)
            await asyncio.sleep(QUIET)
        found = (router._registry.get(session_id) for router in self.routers)
        session = next(session for session in found if session is not None)
        session.send("pushed")
        await asyncio.sleep(QUIET)
        await client.end(ending)
        session.close(4001, "the end")
        await asyncio.sleep(30)  # until nothing waits for the rest of a body
        has_ended = client.has_ended
        client.transport.abort()
        await self.expire()
        return DIFFERS.sub(b"", bytes(client.received)) + (b"!" if has_ended else b"")

    async def connect(self) -> Client:
        """Make a connection to the server."""
        loop, port = asyncio.get_running_loop(), self.runner.addresses[0][1]
        tls = self._client_tls
        return (await loop.create_connection(Client, "127.0.0.1", port, ssl=tls))[1]

    async def expire(self) -> None:
        """Wait as long as sessions without a client may live, whatever their ids."""
        await asyncio.sleep(SETTINGS["disconnect_delay"] + RARE + QUIET)
        left = [session for router in self.routers for session in router._registry._sessions]
        assert not left, left


class Twins:
    """Two servers, one with direct lanes and one without if not told otherwise, and their loop."""

    def __init__(self, *twins: Twin) -> None:
        self.loop = VirtualLoop()
        self._twins = twins or (Twin(True), Twin(False))
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        for twin in self._twins:
            await twin.start()

    def stop(self) -> None:
        """Stop both servers."""
        self.loop.run_until_complete(self._stop())
        self.loop.close()

    async def _stop(self) -> None:
        for twin in self._twins:
            await twin.stop()

    def compare(self, pieces: Sequence[bytes], ending: str) -> None:
        """Make sure that both servers answer `pieces`, where SESSION stands for an id, equally."""
        self.compare_each([pieces], ending)

    def answers(self, pieces: Sequence[bytes], ending: str) -> list[bytes]:
        """Return what each of the servers answers."""
        named = [with_id(pieces)]
        return [self.loop.run_until_complete(hold(twin, named, ending))[0] for twin in self._twins]

    def compare_each(self, conversations: Iterable[Sequence[bytes]], ending: str) -> None:
        """Do so with the pieces of each conversation, many side by side."""
        waiting = [with_id(pieces) for pieces in conversations]
        while waiting:
            some, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            answers = [
                self.loop.run_until_complete(hold(twin, some, ending)) for twin in self._twins
            ]
            for (_, pieces), one, other in zip(some, *answers, strict=True):
                pairs = enumerate(itertools.zip_longest(one, other))
                first = next((at for at, (a, b) in pairs if a != b), 0)
                assert one == other, f"{pieces}, {ending}:\n{one[first:]!r}\n{other[first:]!r}"


def with_id(pieces: Sequence[bytes]) -> tuple[str, list[bytes]]:
    """Return a new id, and `pieces` with it for SESSION, which may be cut in two."""
    session_id = f"s{next(_numbers):06}"  # as long as SESSION
    whole = b"".join(pieces).replace(b"SESSION", session_id.encode())
    ends = list(itertools.accumulate(map(len, pieces), initial=0))
    return session_id, [whole[start:end] for start, end in itertools.pairwise(ends)]


async def hold(twin: Twin, some: list[tuple[str, list[bytes]]], ending: str) -> list[bytes]:
    """Hold conversations side by side; return what came back in each."""
    return await asyncio.gather(*(twin.talk(name, pieces, ending) for name, pieces in some))


def post(path: str, body: bytes = b"", *fields: str) -> bytes:
    """Make a request as a client does."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def greeting(session_id: str) -> list[bytes]:
    """Make the requests behind which a lane may answer."""
    path = f"/echo/000/{session_id}"
    return [post(f"{path}/xhr"), post(f"{path}/xhr_send", b"[]")]


def new_tls_twins(directory: Path) -> Twins:
    """Make two servers that speak TLS, with a certificate in `directory`."""
    tls = contexts(make_certificate(directory))
    return Twins(Twin(True, tls=tls), Twin(False, tls=tls))


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    """Two servers for the tests of a module."""
    yield from _answering_alike(Twins())


@pytest.fixture(scope="module")
def tls_twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Two servers that speak TLS."""
    yield from _answering_alike(new_tls_twins(tmp_path_factory.mktemp("certificate")))


def _answering_alike(made: Twins) -> Iterator[Twins]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "randbits", lambda _: 7)  # what /info answers
        yield made
    made.stop()
