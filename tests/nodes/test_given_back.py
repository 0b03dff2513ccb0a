"""A session's id that a node gives back, because it has no room, just as it is needed again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import Nodes, SockJSRouter
from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError
from tests.brokers.redis_server import RedisServer
from tests.conftest import Echo
from tests.nodes.processes import SECRET
from tests.ports import free_port
from tests.target import Target

pytestmark = pytest.mark.redis


class Gate:
    """What waits there, and may go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.is_open = asyncio.Event()

    async def passed(self) -> None:
        self.reached.set()
        await self.is_open.wait()


class OneRoom:
    """A node with room for one session."""

    def __init__(self, redis: RedisServer) -> None:
        self.authorizing = Gate()
        self.removing = Gate()
        self.port = free_port()
        self.nodes = Nodes(redis.url, url=f"http://127.0.0.1:{self.port}", secret=SECRET)
        self.app = web.Application()
        self.nodes.attach(self.app)
        settings = {"max_sessions": 1, "disconnect_delay": 30}
        SockJSRouter(Echo, "/echo", settings, authorize=self.authorize).attach(self.app)
        self.runner = web.AppRunner(self.app)

    async def authorize(self, request: web.Request) -> bool:
        if "slow" in request.query:
            await self.authorizing.passed()
        return True

    async def start(self) -> Target:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        assert self.nodes._work is not None
        directory: Any = self.nodes._work.directory
        remove = directory.remove

        async def remove_later(keys: list[str]) -> None:
            await self.removing.passed()
            await remove(keys)

        directory.remove = remove_later
        return Target(self.port, "/echo")


@pytest.fixture
async def room(own_redis: RedisServer) -> AsyncIterator[OneRoom]:
    room = OneRoom(own_redis)
    yield room
    await room.runner.cleanup()


async def test_a_session_that_is_opened_meanwhile_is_recorded(
    room: OneRoom, own_redis: RedisServer
) -> None:
    target = await room.start()
    refused = asyncio.ensure_future(target.request("POST", "/0/x/xhr?slow", b""))
    await room.authorizing.reached.wait()
    async with target.websocket() as websocket:
        assert await websocket.receive_str() == "o"
        room.authorizing.is_open.set()
        await room.removing.reached.wait()
    while (reply := await target.request("POST", "/0/x/xhr", b"")).status != 200:
        await asyncio.sleep(0.01)  # until there is room again
    assert reply.body == b"o\n"
    room.removing.is_open.set()
    assert (await refused).status == 503
    assert own_redis.cli("exists", "sockjs:session:/echo:x") == "1"
    await target.hang_up()


async def test_a_session_that_is_opened_meanwhile_is_recorded_again_if_the_answer_is_lost(
    room: OneRoom, own_redis: RedisServer
) -> None:
    """Nobody knows whether the id was removed before it was claimed again, or after."""
    target = await room.start()
    assert room.nodes._work is not None
    work = room.nodes._work
    remove = work.directory.remove

    async def lose_answer(keys: list[str]) -> None:
        await remove(keys)
        raise DirectoryUnavailableError("no answer in time")

    directory: Any = work.directory
    directory.remove = lose_answer
    refused = asyncio.ensure_future(target.request("POST", "/0/x/xhr?slow", b""))
    await room.authorizing.reached.wait()
    async with target.websocket() as websocket:
        assert await websocket.receive_str() == "o"
        room.authorizing.is_open.set()
        await room.removing.reached.wait()
    while (await target.request("POST", "/0/x/xhr", b"")).status != 200:
        await asyncio.sleep(0.01)  # until there is room again
    room.removing.is_open.set()
    assert (await refused).status == 503
    directory.remove = remove
    assert own_redis.cli("exists", "sockjs:session:/echo:x") == "0"
    await work.keeper.look()
    assert own_redis.cli("exists", "sockjs:session:/echo:x") == "1"
    await target.hang_up()
