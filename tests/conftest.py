"""What all tests share: a real server on a loopback port, clients, and a recorder of hooks."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter
from tests.ports import free_port
from tests.target import Target

pytest_plugins = ["tests.log_check"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--loop", choices=["asyncio", "uvloop"], default="asyncio")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs chromium and npm's sockjs-client")
    config.addinivalue_line("markers", "haproxy: needs haproxy")
    config.addinivalue_line("markers", "redis: needs redis-server")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if config.getoption("--loop") == "uvloop":
        import uvloop

        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


def require(tool: object, what: str) -> None:
    """Skip the test if `tool` is missing; in CI nothing may be missing."""
    if not tool:
        if os.environ.get("CI"):
            pytest.fail(f"{what} is not installed")
        pytest.skip(f"{what} is not installed")


SHORT = {"disconnect_delay": 0.1, "heartbeat_delay": 0.2, "session_check_interval": 0.02}
"""Settings for tests that wait for time to pass."""


@pytest.fixture
def unused_tcp_port() -> int:
    """A port for a server in a process of its own."""
    return free_port()


@dataclass
class Served(Target):
    """A server in this very process."""

    app: web.Application
    router: SockJSRouter
    runner: web.AppRunner

    async def until_empty(self) -> None:
        """Wait until the router has no session left."""
        async with async_timeout.timeout(5):
            while self.router.session_count:
                await asyncio.sleep(0.002)


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Run a router on a real server: ``await serve(Echo, settings={...})``."""
    servers: list[Served] = []

    async def run(
        connection: Any = None,
        prefix: str = "/echo",
        settings: Any = None,
        *,
        authorize: Any = None,
        broker: Any = None,
        app: web.Application | None = None,
        **runner_options: Any,
    ) -> Served:
        app = app or web.Application()
        router = SockJSRouter(
            connection or Echo, prefix, settings, authorize=authorize, broker=broker
        )
        router.attach(app)
        runner_options.setdefault("handler_cancellation", True)
        runner = web.AppRunner(app, access_log=None, **runner_options)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        served = Served(port, prefix.rstrip("/"), app, router, runner)
        servers.append(served)
        return served

    yield run
    for served in servers:
        await served.hang_up()
        await served.runner.cleanup()


class Echo(SockJSConnection):
    """Sends every message back."""

    async def on_message(self, message: str | bytes) -> None:
        self.send(message)


class Recorder(SockJSConnection):
    """Notes which hooks are called, in order; each test derives a class of its own from it.

    ``seen`` has ``"open"``, the messages, and ``"close"``; `until` waits for one of them.
    """

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
    async def until(cls, what: Any, count: int = 1) -> None:
        """Wait until `what` has been seen `count` times."""
        async with async_timeout.timeout(5):
            while cls.seen.count(what) < count:
                await asyncio.sleep(0.001)
