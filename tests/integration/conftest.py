"""The real haproxy before three servers, and a browser, as fixtures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.brokers.redis_server import RedisServer, find_server, note_known
from tests.conftest import require
from tests.integration.browser import launched
from tests.integration.client import Client
from tests.integration.haproxy import Haproxy, find_program
from tests.integration.node import NodeProcess, running_nodes

MakeClient = Callable[..., Client]
OpenClients = Callable[..., Awaitable[list[Client]]]
StartHaproxy = Callable[..., Haproxy]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The browser of all tests; its tests share an event loop."""
    async with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def program() -> str:
    found = find_program("haproxy")
    require(found, "haproxy")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis where nodes have run before."""
    require(find_server(), "redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    note_known(server)
    yield server.url
    server.kill()


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[NodeProcess]]:
    """Servers that no test stops."""
    with running_nodes() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def relaying_nodes(redis: str) -> Iterator[list[NodeProcess]]:
    """The same that hand requests on to each other."""
    with running_nodes(redis=redis, relays=True) as nodes:
        yield nodes


@pytest.fixture
def own_nodes(request: pytest.FixtureRequest, program: str) -> Iterator[list[NodeProcess]]:
    """Servers that the test may stop, as the `configuration` needs them, if there is one."""
    has_one = "configuration" in request.fixturenames
    relays = has_one and request.getfixturevalue("configuration") == "by-relay"
    redis = request.getfixturevalue("redis") if relays else None
    with running_nodes(redis=redis, relays=relays) as nodes:
        yield nodes


@pytest.fixture
def start_haproxy(program: str, tmp_path: Path) -> Iterator[StartHaproxy]:
    """Start haproxy before `nodes`, for the test alone: ``start_haproxy(nodes, "by-cookie")``."""
    started: list[Haproxy] = []

    def start(*args: Any, **kwargs: Any) -> Haproxy:
        directory = tmp_path / f"haproxy{len(started)}"
        directory.mkdir()
        started.append(Haproxy(program, directory, *args, **kwargs))
        return started[-1]

    yield start
    for haproxy in started:
        haproxy.stop()


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    """Make a `Client` that is closed after the test."""
    clients: list[Client] = []

    def make(*args: Any, **kwargs: Any) -> Client:
        clients.append(Client(*args, **kwargs))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
async def open_clients(make_client: MakeClient) -> OpenClients:
    """Open `count` sessions through `front`."""

    async def open_all(front: Haproxy, count: int, *args: Any) -> list[Client]:
        clients = [make_client(front.port, *args) for _ in range(count)]
        assert await asyncio.gather(*(client.receive() for client in clients)) == ["o"] * count
        return clients

    return open_all
