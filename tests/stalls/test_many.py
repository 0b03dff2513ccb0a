"""Much that happens together: messages, frames, ticks, ends."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import SockJSConnection, aiolibs
from sockjs_aio.core.registry import SessionRegistry
from tests.conftest import Recorder, Serve
from tests.stalls.inputs import MIB
from tests.stalls.peers import Peer, post
from tests.stalls.rooms import SESSION, Members, Silent, empty, fill, opened
from tests.stalls.throwing import Thrower

# Many at a time.

MANY = 10_000


@pytest.mark.parametrize("path", ["/echo/0/1/websocket", "/echo/websocket", "xhr_send"])
async def test_messages_with_a_broadcast_each_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, path: str
) -> None:
    class Room(Members):
        pass

    served = await serve(Room, settings={"send_queue_limit": 64 * MIB, "disconnect_delay": 60})
    Room.all = [session.connection for session in fill(served.router, 1000)]
    await opened(served)
    payload = json.dumps(["x"] * 1000).encode()

    def exchange() -> None:
        if path == "xhr_send":
            assert post(served.port, SESSION + "/xhr_send", payload) == 204
            return
        peer = Peer(served.port, path)
        if path == "/echo/websocket":
            peer.send(1, *[b"x"] * 1000)
        else:
            peer.send(1, payload)
        peer.send(8, b"\x03\xe8")
        peer.until(b"\x03\xe8")
        peer.close()

    async def attempt() -> None:
        await asyncio.to_thread(exchange)
        if path == "xhr_send":
            session = served.router._registry.get("session")
            while session is not None and session.hooks.inbox:
                await asyncio.sleep(0.01)

    await throw(attempt)
    await empty(served.router)


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [(1, b""), (1, b"[]"), (1, b'"a"'), (2, b""), (9, b""), (9, b"x" * 125), (10, b"")],
)
@pytest.mark.parametrize("path", ["/echo/0/1/websocket", "/echo/websocket"])
async def test_many_small_frames_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, path: str, opcode: int, payload: bytes
) -> None:
    served = await serve(Silent)

    def exchange() -> None:
        peer = Peer(served.port, path)
        peer.send(opcode, *[payload] * 20_000)
        peer.send(8, b"\x03\xe8")
        peer.until(b"\x03\xe8")
        peer.close()

    await throw(lambda: asyncio.to_thread(exchange))


async def test_heartbeats_of_the_same_second_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve
) -> None:
    served = await serve(Silent)
    fill(served.router, MANY)
    registry = served.router._registry
    ahead = 0.0

    async def attempt() -> None:
        nonlocal ahead
        ahead += 26
        await tick(registry, ahead)

    await throw(attempt)
    await empty(served.router)


async def test_sessions_that_expire_together_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    registry = served.router._registry

    async def attempt() -> None:
        await tick(registry, 6)
        while served.router.session_count:
            await asyncio.sleep(0.01)

    await throw(attempt, lambda: fill(served.router, MANY, limit=1))


@pytest.mark.parametrize("hook", ["returns", "hangs"])
@pytest.mark.parametrize("end", ["drain", "shutdown"])
async def test_sessions_that_are_closed_together_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, end: str, hook: str
) -> None:
    class Ended(SockJSConnection):
        async def on_close(self) -> None:
            if hook == "hangs":
                await asyncio.sleep(60)

    served = await serve(Ended, settings={"shutdown_timeout": 0.2})
    closing = served.router._registry.closing

    async def attempt() -> None:
        await (closing.drain(0) if end == "drain" else served.router._registry.shutdown())

    await throw(attempt, lambda: fill(served.router, MANY))
    await empty(served.router)


async def test_sessions_of_aiolibs_that_are_cleared_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve
) -> None:
    async def handle(_manager: Any, _session: Any, _message: Any) -> None:
        pass

    app = web.Application()
    aiolibs.add_endpoint(app, handle, prefix="/aiolibs", name="all")
    manager = aiolibs.get_manager("all", app)
    await serve(Silent, app=app)
    assert manager._router is not None
    router = manager._router
    fill(router, MANY)
    while len(manager.sessions) < MANY:
        await asyncio.sleep(0)
    await throw(manager.clear)
    await empty(router)


async def tick(registry: SessionRegistry, ahead: float) -> None:
    """Have the registry look at what will be due in `ahead` seconds."""
    now = registry.now
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(registry, "now", lambda: now() + ahead)
        await registry._clock.tick(registry.now())
