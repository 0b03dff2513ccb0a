"""What all tests share: a real server on a loopback port, clients, and a recorder of hooks."""

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter
from sockjs_aio.core.session import Session
from sockjs_aio.server import websocket_connection
from tests.ports import free_port
from tests.require import require as require
from tests.sharing_proxy import SharingProxy
from tests.target import Target

if TYPE_CHECKING:  # a plugin is imported by pytest first
    from tests.axes import Axes

pytest_plugins = ["tests.log_check", "tests.axes", "tests.selection", "sockjs_aio.testing.fixtures"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs chromium and npm's sockjs-client")
    config.addinivalue_line("markers", "haproxy: needs haproxy")
    config.addinivalue_line("markers", "redis: needs redis-server")


SHORT = {"disconnect_delay": 0.1, "heartbeat_delay": 0.2, "session_check_interval": 0.02}
"""Settings for tests that wait for time to pass."""

PATIENCE = 20.0
"""Seconds after which what a test waits for is taken to never happen."""


@pytest.fixture
def unused_tcp_port() -> int:
    """A port for a server in a process of its own."""
    return free_port()


@pytest.fixture
def endless_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let WebSockets handle all that has come in one turn, however busy the machine is."""
    monkeypatch.setattr(websocket_connection, "TURN", math.inf)


@dataclass
class Served(Target):
    """A server in this very process."""

    app: web.Application
    router: SockJSRouter
    runner: web.AppRunner

    def http_connections(self) -> list[Any]:
        """What aiohttp has of each TCP connection."""
        assert self.runner.server is not None
        return list(self.runner.server.connections)

    async def until_empty(self) -> None:
        """Wait until the router has no session left."""
        async with async_timeout.timeout(PATIENCE):
            while self.router.session_count:
                await asyncio.sleep(0.002)


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve(axes: "Axes") -> AsyncIterator[Serve]:
    """Run a router on a real server: ``await serve(Echo, settings={...})``."""
    servers: list[Served] = []
    proxies: list[SharingProxy] = []

    async def run(
        connection: Any = None,
        prefix: str = "/echo",
        settings: Any = None,
        *,
        authorize: Any = None,
        broker: Any = None,
        observers: Any = (),
        on_presence: Any = None,
        app: web.Application | None = None,
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
        **runner_options: Any,
    ) -> Served:
        server_tls, client_tls = tls or (axes.server_tls, axes.client_tls)
        app = app or web.Application()
        axes.add_middlewares(app)
        options = {} if asks_for_lane(settings) else axes.router_options
        options.update(authorize=authorize, broker=broker, observers=observers)
        options.update(on_presence=on_presence)
        router = SockJSRouter(connection or Echo, prefix, settings, **options)
        router.attach(app)
        runner = web.AppRunner(app, access_log=None, **runner_options)
        await runner.setup()
        axes.prepare(runner, router)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls)
        await site.start()
        port = runner.addresses[0][1]
        if proxy := await axes.start_proxy(port):
            proxies.append(proxy)
            port = proxy.port
        served = Served(port, prefix.rstrip("/"), app, router, runner, tls=client_tls)
        servers.append(served)
        return served

    yield run
    for served in servers:
        await served.hang_up()
    for proxy in proxies:
        await proxy.stop()
    for served in servers:
        await served.runner.cleanup()


def asks_for_lane(settings: Any) -> bool:
    """Tell whether a test says itself whether there is to be a direct lane."""
    return isinstance(settings, dict) and "direct_requests" in settings


class Echo(SockJSConnection):
    """Sends every message back."""

    async def on_message(self, message: str | bytes) -> None:
        self.send(message)


class Recorder(SockJSConnection):
    """Notes which hooks are called, in order; each test derives a class of its own from it.

    ``seen`` has ``"open"``, the messages, and ``"close"``; `until` waits for one of them.
    """

    session: Session  # some tests look inside
    seen: list[Any]
    connections: "list[Recorder]"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.seen = []
        cls.connections = []

    async def on_open(self, info: ConnectionInfo) -> Any:
        self.connections.append(self)
        self.seen.append("open")

    async def on_message(self, message: str | bytes) -> None:
        self.seen.append(message)

    async def on_close(self) -> None:
        self.seen.append("close")

    @classmethod
    def forget(cls) -> None:
        """Begin again: what is seen next is the first."""
        cls.seen.clear()
        cls.connections.clear()

    @classmethod
    async def until(cls, what: Any, count: int = 1) -> None:
        """Wait until `what` has been seen `count` times."""
        async with async_timeout.timeout(PATIENCE):
            while cls.seen.count(what) < count:
                await asyncio.sleep(0.001)
