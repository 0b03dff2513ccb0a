"""Clients that are far away, and send all the time, while the server ends."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import async_timeout
import pytest

from tests import clients
from tests.target import Target
from tests.test_run_app import Run
from tests.test_run_app import server as server

DELAY = 0.025
"""Seconds that everything takes in each direction."""

INTERVAL = 0.05
"""Seconds between two messages of a client."""

RESTART = b'c[1012,"Service restart"]'

Kind = type[clients.Client]


def write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.transport.is_closing():  # where uvloop would raise
        writer.write(data)


async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write to `writer` what comes from `reader`, `DELAY` seconds after it has come."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            loop.call_later(DELAY, write, writer, data)
    loop.call_later(DELAY, writer.close)


@contextlib.asynccontextmanager
async def far_away(served: Target) -> AsyncIterator[Target]:
    """Give another way to a server, which takes longer."""

    connections: set[asyncio.Task[Any]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        writers.append(writer)
        try:
            streams = await asyncio.open_connection("127.0.0.1", served.port)
        except OSError:
            writer.close()
            return
        writers.append(streams[1])
        await asyncio.gather(late(reader, streams[1]), late(streams[0], writer))

    proxy = await asyncio.start_server(connect, "127.0.0.1", 0)
    far = Target(proxy.sockets[0].getsockname()[1], served.prefix)
    yield far
    await far.hang_up()
    proxy.close()
    for writer in writers:
        writer.close()
    await asyncio.wait(connections)
    await asyncio.sleep(2 * DELAY)  # what is late by then


async def chat(kind: Kind, far: Target) -> tuple[bytes, list[str]]:
    """Send until the session ends, as sockjs-client does; return how it ended, and what came back.

    A send that is not accepted ends sockjs-client with 1006, unless it has had the close frame.
    """
    client = await kind.open(far)
    received: list[str] = []
    end = asyncio.ensure_future(_receive(client, received))
    for number in range(1000):
        send = asyncio.ensure_future(client.send_payload(f'["{number}"]'))
        await asyncio.wait([send, end], return_when=asyncio.FIRST_COMPLETED)
        if not end.done() and (send.exception() or send.result() not in (200, 204)):
            end.cancel()
            return b"1006", received
        if end.done():
            send.cancel()
            break
        await asyncio.wait([end], timeout=INTERVAL)
    await asyncio.wait([send])
    await client.leave()
    return end.result(), received


async def _receive(client: clients.Client, received: list[str]) -> bytes:
    while True:
        frame = await client.frame()
        if frame[:1] != b"a":
            return frame
        received += json.loads(frame[1:])


@pytest.mark.parametrize("kind", [*clients.POLLS, clients.XhrStreaming], ids=lambda kind: kind.name)
async def test_nobody_who_sends_while_the_server_ends_loses_the_code(
    server: Run, kind: Kind
) -> None:
    served = await server(notice=0.3, over=0.5)
    async with far_away(served) as far:
        talks = [asyncio.ensure_future(chat(kind, far)) for _ in range(15)]
        await asyncio.sleep(0.5)
        served.process.send_signal(signal.SIGTERM)
        async with async_timeout.timeout(20):
            ends = await asyncio.gather(*talks)
    assert [end for end, _ in ends] == [RESTART] * len(talks)
    for _, received in ends:
        assert received == [str(number) for number in range(len(received))]
        assert received
    assert await served.ended() == 0
