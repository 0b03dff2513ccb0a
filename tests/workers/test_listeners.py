"""The sockets for clients, by themselves."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
from aiohttp import web

from sockjs_aio.cluster.workers.listeners import Listeners, stop_accepting
from tests.process import PATIENCE


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def serve(listener: socket.socket) -> tuple[web.AppRunner, web.SockSite, socket.socket]:
    """Serve at a duplicate of a listener, as a worker does."""
    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    own = listener.dup()
    own.setblocking(False)
    site = web.SockSite(runner, own)
    await site.start()
    return runner, site, own


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("turns", range(6))
async def test_no_connection_is_lost_when_a_listener_is_handed_over(
    turns: int, family: str, tmp_path: Path
) -> None:
    """Whichever turn of the loop it comes in."""
    if family == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{tmp_path}/s")
        listener.listen()
    with listener:
        old, site, own = await serve(listener)
        clients = []
        for _ in range(20):
            client = socket.socket(listener.family)
            client.connect(listener.getsockname())
            clients.append(client)
        for _ in range(turns):
            await asyncio.sleep(0)
        await stop_accepting([(site, own)])
        new, _, _ = await serve(listener)
        for client in clients:
            client.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=client)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()
        for runner in (old, new):
            await runner.cleanup()


def test_a_worker_that_is_left_out_gets_no_connections() -> None:
    """Those that would wait for it go to the others."""
    with Listeners(2, ["127.0.0.1"]) as listeners:
        (number,) = listeners.filenos(0)
        (other_number,) = listeners.filenos(1)
        with socket.socket(fileno=os.dup(number)) as dead:
            address = dead.getsockname()
        listeners.leave_out(0)
        clients = [socket.create_connection(address) for _ in range(40)]
        with socket.socket(fileno=os.dup(other_number)) as other:
            other.settimeout(PATIENCE)
            for _ in clients:
                other.accept()[0].close()
        for client in clients:
            client.close()
