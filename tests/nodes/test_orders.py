"""Whose a session is, in whatever order two nodes' commands and Redis's answers come."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import Nodes, SockJSRouter
from tests.brokers.redis_server import RedisServer
from tests.conftest import Echo
from tests.nodes.processes import SECRET
from tests.ports import free_port
from tests.process import PATIENCE
from tests.target import Target
from tests.wire import Wire

pytestmark = pytest.mark.redis

ORDERS = 80
STEPS = 25

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


class Queue:
    """What waits until the test lets it go on, in any order."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[bool]] = []

    async def passed(self) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return await future

    def let_go(self, chance: random.Random) -> None:
        self.waiting = [each for each in self.waiting if not each.done()]
        if self.waiting:
            going = self.waiting.pop(chance.randrange(len(self.waiting)))
            going.set_result(chance.random() < 0.5)


class HeldNode:
    """A node with room for one session; its commands, Redis's answers and `authorize` wait."""

    def __init__(self, redis: RedisServer) -> None:
        self.commands = Queue()
        self.authorizing = Queue()
        self.port = free_port()
        self.nodes = Nodes(
            redis.url, url=f"http://127.0.0.1:{self.port}", secret=SECRET, lease=600, expiry=60
        )
        self.app = web.Application()
        self.nodes.attach(self.app)
        settings = {"max_sessions": 1, "disconnect_delay": 0.02, "ended_session_delay": 0.001}
        self.router = SockJSRouter(Echo, "/echo", settings, authorize=self.authorize)
        self.router.attach(self.app)
        self.runner = web.AppRunner(self.app)
        self.target = Target(self.port, "/echo")
        self.looking: asyncio.Future[None] | None = None
        self.guest: Wire | None = None

    async def authorize(self, request: web.Request) -> bool:
        return "guest" in request.query or await self.authorizing.passed()

    @property
    def own(self) -> str:
        assert self.nodes._work is not None
        return self.nodes._work.directory.own

    @property
    def keeper(self) -> Any:
        assert self.nodes._work is not None
        return self.nodes._work.keeper

    async def start(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        assert self.nodes._work is not None
        access: Any = self.nodes._work.directory._redis
        run = access.run

        async def run_held(ask: Callable[[], Awaitable[Any]], **options: Any) -> Any:
            async def attempt() -> Any:
                await self.commands.passed()
                answer = await run(ask, **options)
                await self.commands.passed()
                return answer

            return await asyncio.shield(asyncio.ensure_future(attempt()))

        access.run = run_held

    def look(self) -> None:
        if self.looking is None or self.looking.done():
            self.looking = asyncio.ensure_future(self.keeper.look())

    async def change_room(self) -> None:
        """Have a guest take the room if it is free, or leave it."""
        if self.guest is None:
            self.guest = await self.target.wire()
            self.guest.send("GET", "/echo/websocket?guest", headers=HANDSHAKE)
        else:
            self.guest.abort()
            self.guest = None

    def session(self, session_id: str) -> Any:
        return self.router._service.registry.get(session_id)

    async def stop(self) -> None:
        await self.target.hang_up()
        await self.runner.cleanup()


class Search:
    """One random order of what may happen to one session id at two nodes.

    Args:
        nodes: The nodes.
        session_id: The id.
        chance: Chooses.
    """

    def __init__(self, nodes: list[HeldNode], session_id: str, chance: random.Random) -> None:
        self.nodes = nodes
        self.id = session_id
        self.chance = chance
        self.requests: list[Wire] = []

    async def run(self) -> None:
        await self.have_one_given_back()
        steps = [self.leave, self.end, self.change_room, self.look]
        steps += 2 * [self.ask] + 2 * [self.answer] + 6 * [self.pass_on]
        for _ in range(STEPS):
            node = self.nodes[self.chance.random() < 0.2]
            await self.chance.choice(steps)(node)
            await asyncio.sleep(self.chance.choice([0, 0.001, 0.002]))

    async def have_one_given_back(self) -> None:
        """Have the first node begin to give the id back, for lack of room."""
        node = self.nodes[0]
        await self.ask(node)
        async with async_timeout.timeout(PATIENCE):
            while not node.authorizing.waiting:
                await self.pass_on(node)
                await asyncio.sleep(0.001)
            await node.change_room()
            while not node.router.session_count:
                await asyncio.sleep(0.001)
            node.authorizing.waiting.pop().set_result(True)
            while not node.commands.waiting:
                await asyncio.sleep(0.001)
            await node.change_room()
            while node.router.session_count:
                await asyncio.sleep(0.001)

    async def ask(self, node: HeldNode) -> None:
        wire = await node.target.wire()
        wire.send("POST", f"/echo/0/{self.id}/xhr_streaming", b"")
        self.requests.append(wire)

    async def leave(self, _node: HeldNode) -> None:
        if self.requests:
            self.requests.pop(self.chance.randrange(len(self.requests))).abort()

    async def answer(self, node: HeldNode) -> None:
        node.authorizing.let_go(self.chance)

    async def pass_on(self, node: HeldNode) -> None:
        node.commands.let_go(self.chance)

    async def end(self, node: HeldNode) -> None:
        if (session := node.session(self.id)) is not None:
            session.close(4000, "over")

    async def change_room(self, node: HeldNode) -> None:
        await node.change_room()

    async def look(self, node: HeldNode) -> None:
        node.look()

    async def come_to_rest(self) -> None:
        """Let everything go on, until nothing waits any more."""
        quiet = 0
        async with async_timeout.timeout(PATIENCE):
            while quiet < 5:
                await asyncio.sleep(0.002)
                queues = [
                    queue for node in self.nodes for queue in (node.commands, node.authorizing)
                ]
                quiet = 0 if any(queue.waiting for queue in queues) else quiet + 1
                for queue in queues:
                    queue.let_go(self.chance)

    async def end_all(self) -> None:
        """Make room for the next search."""
        for each in self.requests:
            each.abort()
        for node in self.nodes:
            await self.end(node)
            if node.guest is not None:
                await node.change_room()
            async with async_timeout.timeout(PATIENCE):
                while node.router.session_count:
                    await asyncio.sleep(0.001)


@pytest.fixture
async def nodes(own_redis: RedisServer) -> AsyncIterator[list[HeldNode]]:
    nodes = [HeldNode(own_redis) for _ in range(2)]
    for node in nodes:
        await node.start()
    yield nodes
    letting_go = asyncio.ensure_future(let_all_go(nodes))
    for node in nodes:
        await node.stop()
    letting_go.cancel()


async def let_all_go(nodes: list[HeldNode]) -> None:
    chance = random.Random(0)
    while True:
        for node in nodes:
            node.commands.let_go(chance)
            node.authorizing.let_go(chance)
        await asyncio.sleep(0.001)


async def test_redis_knows_each_session_and_no_two_nodes_have_one(
    nodes: list[HeldNode], own_redis: RedisServer
) -> None:
    opened = 0
    for seed in range(ORDERS):
        search = Search(nodes, f"x{seed}", random.Random(seed))
        await search.run()
        await search.come_to_rest()
        record = own_redis.cli("get", f"sockjs:session:/echo/{search.id}").partition("/")[0]
        owners = [node for node in nodes if node.session(search.id) is not None]
        assert [node.own for node in owners] in ([], [record]), f"seed {seed}"
        opened += len(owners)
        await search.end_all()
    assert opened > ORDERS / 10, "otherwise little was tried"
