"""The whole server, fed with raw bytes over real sockets, its time in the fuzzer's hands."""

import asyncio
import logging
import re
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from sockjs_aio import SockJSConnection, SockJSRouter
from sockjs_aio.multiplex import MultiplexConnection
from sockjs_aio.server.body import invite_body
from tests.virtual_loop import VirtualLoop

NEXT = b"\n~~~\n"
"""Stands between what is sent on one connection and what on the next."""

MAX_CONNECTIONS = 5
MAX_SESSIONS = 3
QUIET = 0.001
"""Seconds of the loop's time: they pass when nobody has anything to do any more."""

NOT_HTTP = (HttpProcessingError, web.RequestPayloadError)

OWN_REFUSALS = rb"Payload expected\.|Broken JSON encoding\.|(?:invalid )?\"callback\" parameter"


class Commands(SockJSConnection):
    """Echoes, and does what some messages say."""

    async def on_message(self, message: Any) -> None:
        if message == "close":
            self.close(3001, "as you wish")
        elif message == "flood":
            self.send("x" * 20_000)
        elif message == "drain":
            await self.drain()
        else:
            self.send(message)


LIMITS = {
    "heartbeat_delay": 2,
    "response_limit": 2000,
    "max_message_size": 2000,
    "max_messages": 20,
    "send_queue_limit": 30_000,
    "receive_queue_limit": 2000,
    "ended_session_delay": 30,  # the next input, which has the same ids, opens sessions anew
    "max_sessions": MAX_SESSIONS,
    "max_sessions_per_ip": MAX_SESSIONS,
}
OPEN_TO_ALL = {**LIMITS, "websocket_compression": True}
RESTRICTED = {
    **LIMITS,
    "jsessionid": True,
    "origins": ["https://good.example"],
    "allow_jsonp_and_frames": True,
    "verify_ip": True,
}


async def nothing_here(request: web.Request) -> web.Response:
    return web.Response(status=404)


class Client(asyncio.Protocol):
    """Sends what it is told, and keeps what comes."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data


class Complaints(logging.Handler):
    """Keeps what is logged as an error, but for aiohttp's word on what is not HTTP.

    That is a head that it cannot parse, and a body that nobody wanted and it cannot unpack.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno >= logging.ERROR and not isinstance(error, NOT_HTTP):
            self.texts.append(logging.Formatter().format(record))


class Server:
    """A server with three services, and its loop."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.complaints = Complaints()
        app = web.Application()
        self.routers = [
            SockJSRouter(Commands, "/echo", OPEN_TO_ALL),
            SockJSRouter(Commands, "/strict", RESTRICTED),
            SockJSRouter(MultiplexConnection.get(a=Commands), "/channels", LIMITS),
        ]
        for router in self.routers:
            router.attach(app)
        # where no route matches, aiohttp fails at an Expect header that is not UTF-8
        app.router.add_route("*", "/{rest:.*}", nothing_here, expect_handler=invite_body)
        log = logging.Logger("aiohttp")  # apart from the others: its complaints are sifted
        log.addHandler(self.complaints)
        self.runner = web.AppRunner(app, access_log=None, handler_cancellation=True, logger=log)
        self.loop.run_until_complete(self._start())
        self.port = self.runner.addresses[0][1]
        self.tasks = len(asyncio.all_tasks(self.loop))

    async def _start(self) -> None:
        self.loop.set_exception_handler(self._complain)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.complaints.texts.append(f"{context['message']}: {context.get('exception')!r}")

    def stop(self) -> None:
        self.loop.run_until_complete(self.runner.cleanup())
        self.loop.close()

    def feed(self, data: bytes) -> list[bytes]:
        """Send `data`, let time pass, leave; return what came on each connection.

        Raises:
            AssertionError: If the server does not take it as it should.
        """
        logging.getLogger().addHandler(self.complaints)
        try:
            return self.loop.run_until_complete(self._feed(data))
        finally:
            logging.getLogger().removeHandler(self.complaints)
            self.complaints.texts.clear()

    async def _feed(self, data: bytes) -> list[bytes]:
        clients: list[Client] = []
        for part in data.split(NEXT)[:MAX_CONNECTIONS]:
            clients.append(await self._connect())
            clients[-1].transport.write(part)
            await asyncio.sleep(QUIET)
        await asyncio.sleep(35)  # heartbeats, pings, receive_timeout
        assert all(router.session_count <= MAX_SESSIONS for router in self.routers)
        await self._leave(clients)
        await self._check_next_request()
        await self._check_nothing_left()
        for client in clients:
            self._check_answers(bytes(client.received))
        assert not self.complaints.texts, list(self.complaints.texts)
        return [bytes(client.received) for client in clients]

    async def _connect(self) -> Client:
        _, client = await self.loop.create_connection(Client, "127.0.0.1", self.port)
        return client

    async def _leave(self, clients: list[Client]) -> None:
        for number, client in enumerate(clients):
            if (number + len(client.received)) % 2:
                client.transport.abort()
            else:
                client.transport.close()
        await asyncio.sleep(40)  # until the last has expired, and aiohttp waits for no more input

    async def _check_next_request(self) -> None:
        client = await self._connect()
        client.transport.write(b"GET /echo/info HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(QUIET)
        assert client.received.startswith(b"HTTP/1.1 200 OK"), bytes(client.received)
        client.transport.close()
        await asyncio.sleep(QUIET)

    async def _check_nothing_left(self) -> None:
        for router in self.routers:
            assert router.session_count == 0, router.prefix
            assert not router._registry.addresses._counts
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(tasks) <= self.tasks, tasks

    def _check_answers(self, received: bytes) -> None:
        assert b"Traceback" not in received
        mistakes = len(re.findall(rb"HTTP/\d\.\d 500 ", received))
        assert mistakes <= len(re.findall(OWN_REFUSALS, received)), received


_servers: list[Server] = []


def fuzz_server(data: bytes) -> None:
    """What comes on up to five connections, `NEXT` between them."""
    if not _servers:
        _servers.append(Server())
    _servers[0].feed(data)
