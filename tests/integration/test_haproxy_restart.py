"""All servers behind the real haproxy are restarted, one after another, under traffic."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sockjs_aio.brokers.redis import RedisBroker
from tests.integration.client import TRANSPORTS, Client, open_websocket
from tests.integration.conftest import StartHaproxy
from tests.integration.haproxy import SERVICES, until
from tests.integration.node import NodeProcess, running_nodes

pytestmark = [pytest.mark.haproxy, pytest.mark.redis, pytest.mark.timeout(180)]

RESTART = 'c[1012,"Service restart"]'
INTERVAL = 0.05
"""Seconds between two numbers that are published."""

NOTICE = 0.6
"""Seconds between SIGTERM and the drain: three checks of haproxy."""


class WebSocket:
    """A `Client` of the other kind."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket

    async def receive(self) -> str:
        return str(await self._websocket.receive_str())

    async def post(self, message: str) -> None:
        await self._websocket.send_str(json.dumps([message]))


class Reader:
    """Reads what is published, and echoes now and then; comes back when it is told to.

    It fails if a session ends otherwise, or misses a number between its first and its last one.
    """

    def __init__(self, port: int, transport: str) -> None:
        self.last = 0
        self.sessions = self.echoes = 0
        self._port = port
        self._transport = transport
        self._cookie: dict[str, str] = {}
        self._has_asked = False

    async def read(self) -> None:
        while not await self._read_session():
            pass

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[Client | WebSocket]:
        if self._transport == "websocket":
            async with open_websocket(self._port, "/news/000/x/websocket") as websocket:
                yield WebSocket(websocket)
            return
        client = Client(self._port, self._transport, "/news", headers=self._cookie)
        yield client
        self._cookie = client.headers
        client.close()

    async def _read_session(self) -> bool:
        """Read one session to its end; tell whether that was the end of all."""
        expected: int | None = None
        self._has_asked = False
        self.sessions += 1
        async with self._opened() as client:
            assert await client.receive() == "o"
            while (frame := await client.receive()) != RESTART:
                if frame == "h":  # a poll that waited where a process ends is to be asked elsewhere
                    continue
                assert frame.startswith("a["), frame
                for message in json.loads(frame[1:]):
                    if message == "end":
                        return True
                    if message == "echo":
                        self.echoes += 1
                        self._has_asked = False
                    elif message != "subscribed":
                        number = int(message)
                        assert number == expected or (expected is None and number > self.last)
                        self.last, expected = number, number + 1
                if not self._has_asked:
                    self._has_asked = True  # 404: it has ended, and the frame that says so comes
                    await client.post("echo")
        return False


async def restart(nodes: list[NodeProcess], index: int) -> None:
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, nodes[index].stop, signal.SIGTERM) == 0
    nodes[index] = nodes[index].successor()
    await loop.run_in_executor(None, lambda: nodes[index].port)


@pytest.mark.parametrize("configuration", SERVICES)
async def test_rolling_restart_loses_no_message_of_who_stayed_connected(
    start_haproxy: StartHaproxy, redis: str, configuration: str
) -> None:
    relays = configuration == "by-relay"
    with running_nodes(redis=redis, relays=relays, notice=NOTICE) as nodes:
        front = start_haproxy(nodes, configuration, SOCKJS_CHECK="200ms")
        await front.until_checked()
        readers = [Reader(front.port, kind) for kind in [*TRANSPORTS, "websocket"] * 2]
        reading = asyncio.gather(*(reader.read() for reader in readers))
        number = 0
        is_over = False

        async def publish() -> None:
            nonlocal number
            while not is_over:
                number += 1
                await broker.publish("news", str(number))
                await asyncio.sleep(INTERVAL)

        async def have_all_come_back() -> bool:
            return all(reader.last >= restarted for reader in readers)

        async with RedisBroker(redis) as broker:
            publishing = asyncio.ensure_future(publish())
            for index, name in enumerate(["one", "two", "three"]):
                await restart(nodes, index)
                await front.until_status(name, "UP")
            restarted = number
            await until(have_all_come_back)
            is_over = True
            await publishing
            await broker.publish("news", "end")
        await reading
    assert {reader.last for reader in readers} == {number}
    assert min(reader.echoes for reader in readers) > 0
    assert min(reader.sessions for reader in readers) > 1  # nobody was spared
