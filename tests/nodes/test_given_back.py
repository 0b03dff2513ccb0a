"""Ids that a node has claimed, and gives back or loses while a request for them is answered."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import async_timeout
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio import Nodes, SockJSRouter
from sockjs_aio.cluster.nodes.directory import Directory
from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError
from tests.brokers.redis_server import RedisServer
from tests.conftest import Echo
from tests.nodes.processes import SECRET
from tests.ports import free_port
from tests.process import PATIENCE
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
        self.has_left = asyncio.Event()
        self.port = free_port()
        url = f"http://127.0.0.1:{self.port}"
        self.nodes = Nodes(redis.url, url=url, secret=SECRET, lease=600)
        self.app = web.Application()
        self.nodes.attach(self.app)
        self.app.middlewares.insert(0, self.note_leaving)
        settings = {"max_sessions": 1, "disconnect_delay": 30}
        self.router = SockJSRouter(Echo, "/echo", settings, authorize=self.authorize)
        self.router.attach(self.app)
        self.runner = web.AppRunner(self.app, handler_cancellation=True)

    @web.middleware
    async def note_leaving(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except asyncio.CancelledError:
            self.has_left.set()
            raise

    async def authorize(self, request: web.Request) -> bool:
        if "slow" in request.query:
            await self.authorizing.passed()
        return "refuse" not in request.query

    async def start(self) -> Target:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        assert self.nodes._work is not None
        directory: Any = self.nodes._work.directory
        remove = directory.remove

        async def remove_later(claims: list[tuple[str, str]]) -> None:
            await self.removing.passed()
            await remove(claims)

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
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "1"
    await target.hang_up()


async def test_a_session_that_is_opened_meanwhile_is_recorded_although_the_answer_is_lost(
    room: OneRoom, own_redis: RedisServer
) -> None:
    target = await room.start()
    assert room.nodes._work is not None
    work = room.nodes._work
    remove = work.directory.remove

    async def lose_answer(claims: list[tuple[str, str]]) -> None:
        await remove(claims)
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
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "1"
    await work.keeper.look()
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "1"
    await target.hang_up()


async def test_a_session_that_is_opened_meanwhile_is_recorded_although_the_refused_client_leaves(
    room: OneRoom, own_redis: RedisServer
) -> None:
    target = await room.start()
    assert room.nodes._work is not None
    keeper = room.nodes._work.keeper
    refused = await target.wire()
    refused.send("POST", "/echo/0/x/xhr?slow", b"")
    await room.authorizing.reached.wait()
    async with target.websocket() as websocket:
        assert await websocket.receive_str() == "o"
        room.authorizing.is_open.set()
        await room.removing.reached.wait()
    while (await target.request("POST", "/0/x/xhr", b"")).status != 200:
        await asyncio.sleep(0.01)  # until there is room again
    refused.abort()
    await room.has_left.wait()
    await keeper.look()
    room.removing.is_open.set()
    assert room.nodes._work is not None
    await room.nodes._work.directory.give_back("another", "1")  # after the first one
    await keeper.look()
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "1"
    await target.hang_up()


async def test_a_session_that_is_opened_after_a_refusal_meanwhile_is_recorded(
    room: OneRoom, own_redis: RedisServer
) -> None:
    """The request that is refused has claimed the id again before it is removed."""
    target = await room.start()
    refused = asyncio.ensure_future(target.request("POST", "/0/x/xhr?slow", b""))
    await room.authorizing.reached.wait()
    async with target.websocket() as websocket:
        assert await websocket.receive_str() == "o"
        room.authorizing.is_open.set()
        await room.removing.reached.wait()
    while (await target.request("POST", "/0/x/xhr?refuse", b"")).status != 403:
        await asyncio.sleep(0.01)  # until there is room again
    room.removing.is_open.set()
    assert (await refused).status == 503
    assert (await target.request("POST", "/0/x/xhr", b"")).body == b"o\n"
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "1"
    await target.hang_up()


async def test_an_id_that_is_claimed_and_refused_once_more_is_removed_even_if_redis_was_faster(
    room: OneRoom, own_redis: RedisServer
) -> None:
    """The request that is refused claims the id again after it was removed."""
    target = await room.start()
    assert room.nodes._work is not None
    directory: Any = room.nodes._work.directory

    async def answer_late(claims: list[tuple[str, str]]) -> None:
        await Directory.remove(directory, claims)
        await room.removing.passed()

    directory.remove = answer_late
    refused = asyncio.ensure_future(target.request("POST", "/0/x/xhr?slow", b""))
    await room.authorizing.reached.wait()
    async with target.websocket() as websocket:
        assert await websocket.receive_str() == "o"
        room.authorizing.is_open.set()
        await room.removing.reached.wait()
    while (await target.request("POST", "/0/x/xhr?refuse", b"")).status != 403:
        await asyncio.sleep(0.01)  # until there is room again
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "1"
    room.removing.is_open.set()
    assert (await refused).status == 503
    await room.nodes._work.keeper.look()
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "0"
    await target.hang_up()


async def test_an_id_that_could_not_be_given_back_is_removed_later(
    room: OneRoom, own_redis: RedisServer
) -> None:
    target = await room.start()
    assert room.nodes._work is not None
    directory: Any = room.nodes._work.directory

    async def fail(_claims: list[tuple[str, str]]) -> None:
        raise DirectoryUnavailableError("no answer in time")

    directory.remove = fail
    refused = asyncio.ensure_future(target.request("POST", "/0/x/xhr?slow", b""))
    await room.authorizing.reached.wait()
    async with target.websocket() as websocket:
        assert await websocket.receive_str() == "o"
        room.authorizing.is_open.set()
        assert (await refused).status == 503
    del directory.remove
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "1"
    await room.nodes._work.keeper.look()
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "0"
    await target.hang_up()


async def test_the_id_of_a_session_that_has_ended_meanwhile_is_not_given_back(
    room: OneRoom, own_redis: RedisServer
) -> None:
    """Late requests must find the node that can tell them of the end."""
    target = await room.start()
    room.removing.is_open.set()
    late = asyncio.ensure_future(target.request("POST", "/0/x/xhr?slow", b""))
    await room.authorizing.reached.wait()
    assert (await target.request("POST", "/0/x/xhr", b"")).body == b"o\n"
    registry = room.router._service.registry
    session = registry.get("x")
    assert session is not None
    registry.retire(session)  # as if it had ended; it still needs its room, say for `on_close`
    room.authorizing.is_open.set()
    assert (await late).status == 503
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "1"
    await target.hang_up()


async def test_a_session_ends_even_if_only_a_request_learned_that_another_node_has_its_id(
    room: OneRoom, own_redis: RedisServer
) -> None:
    """Both requests came before Redis had answered for the id.  As if it was then given back."""
    target = await room.start()
    assert room.nodes._work is not None
    directory: Any = room.nodes._work.directory
    asking = Gate()

    async def ask_late(key: str, token: str = "") -> Any:
        del directory.find
        await asking.passed()
        return await directory.find(key, token)

    directory.find = ask_late
    late = asyncio.ensure_future(target.request("POST", "/0/x/xhr", b""))
    await asking.reached.wait()
    assert (await target.request("POST", "/0/x/xhr", b"")).body == b"o\n"
    own_redis.cli("set", "sockjs:session:/echo/x", "another")
    asking.is_open.set()
    assert (await late).body == b'c[1002,"Connection interrupted"]\n'
    await room.nodes._work.keeper.look()
    assert room.router._service.registry.get("x") is None
    assert own_redis.cli("get", "sockjs:session:/echo/x") == "another"
    await target.hang_up()


async def test_a_node_that_ends_while_it_gives_ids_back_records_none_of_them_again(
    room: OneRoom, own_redis: RedisServer
) -> None:
    target = await room.start()
    assert room.nodes._work is not None
    refused = await target.wire()
    refused.send("POST", "/echo/0/x/xhr?slow", b"")
    await room.authorizing.reached.wait()
    async with target.websocket() as websocket:
        assert await websocket.receive_str() == "o"
        room.authorizing.is_open.set()
        await room.removing.reached.wait()
    refused.abort()
    await room.has_left.wait()
    asyncio.get_running_loop().call_later(0.1, room.removing.is_open.set)
    await target.hang_up()
    await room.runner.cleanup()
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "0"


async def test_no_session_is_opened_if_another_node_has_its_id_after_authorize(
    room: OneRoom, own_redis: RedisServer
) -> None:
    """As if this node had been stopped for longer than its lease."""
    target = await room.start()
    assert room.nodes._work is not None
    request = asyncio.ensure_future(target.request("POST", "/0/x/xhr?slow", b""))
    await room.authorizing.reached.wait()
    key = "sockjs:session:/echo/x"
    own_redis.cli("set", key, "another")
    locator = room.nodes._work.locator
    claims = locator.claims.due(before=math.inf, now=math.inf, limit=1)
    assert claims is not None
    await locator.updates.refresh(claims)
    room.authorizing.is_open.set()
    assert (await request).body == b'c[1002,"Session expired"]\n'
    assert room.router.session_count == 0
    assert own_redis.cli("get", key) == "another"
    await target.hang_up()


async def test_a_request_that_found_no_room_opens_no_session_that_is_not_recorded(
    room: OneRoom, own_redis: RedisServer
) -> None:
    """There is room again once Redis has answered that no node has the session."""
    target = await room.start()
    assert room.nodes._work is not None
    directory: Any = room.nodes._work.directory
    find, found = directory.find, Gate()

    async def find_slowly(key: str, token: str = "") -> Any:
        owner = await find(key, token)
        await found.passed()
        return owner

    directory.find = find_slowly
    async with target.websocket() as websocket:
        assert await websocket.receive_str() == "o"
        request = asyncio.ensure_future(target.request("POST", "/0/x/xhr", b""))
        await found.reached.wait()
    async with async_timeout.timeout(PATIENCE):
        while room.router.session_count:
            await asyncio.sleep(0.001)
    found.is_open.set()
    assert (await request).status == 503
    assert room.router.session_count == 0
    assert (await target.request("POST", "/0/x/xhr", b"")).body == b"o\n"
    assert own_redis.cli("exists", "sockjs:session:/echo/x") == "1"
    await target.hang_up()
