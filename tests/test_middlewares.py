"""A middleware that fails after the handler: that request fails, and nothing else does.  One that
runs the handler in another task changes nothing.

One that answers with something else is the axis ``--middleware replacing``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import async_timeout
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler

from tests import clients
from tests.conftest import SHORT, Recorder, Serve

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
streams = pytest.mark.parametrize(
    "kind",
    [kind for kind in clients.HTTP if kind not in clients.POLLS],
    ids=lambda kind: kind.name,
)
Kind = type[clients.Client]

pytestmark = pytest.mark.not_over("replacing")  # it would not be the only one that answers


def failing(failed: list[str], end: str = "") -> web.Application:
    """Make an application whose middleware fails after handlers for paths with `end`."""

    @web.middleware
    async def fail(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.path.endswith(end):
            failed.append(request.path)
            raise ZeroDivisionError("mistake")
        return response

    return web.Application(middlewares=[fail])


class Noted(Recorder):
    """Echoes, and closes on ``close``."""

    async def on_message(self, message: str | bytes) -> None:
        if message == "close":
            self.close(4001, "bye")
        else:
            await super().on_message(message)
            self.send(message)


@pytest.mark.logs("ZeroDivisionError: mistake")
@every
async def test_session_whose_last_response_fails_is_forgotten(serve: Serve, kind: Kind) -> None:
    class Closing(Noted):
        pass

    failed: list[str] = []
    end = f"/{kind.name}" if kind.is_http else "/websocket"
    served = await serve(Closing, settings=SHORT, app=failing(failed, end))
    client = kind(served, {})
    try:
        await client.connect()
        assert await client.frame() in (b"o", b"")
        await client.send("close")
    except (AssertionError, OSError, asyncio.IncompleteReadError):
        assert kind in clients.POLLS, "the others' responses have begun before"
    if kind not in clients.POLLS:
        assert await client.frame() in (b'c[4001,"bye"]', b"")
        await client.leave()
    while not failed:
        await asyncio.sleep(0.001)
    await Closing.until("close")
    assert Closing.seen == ["open", "close"]
    await served.until_empty()


@pytest.mark.not_over("lane-on")  # a middleware does not see each request
@pytest.mark.logs("ZeroDivisionError: mistake")
@http
async def test_messages_whose_answer_fails_are_handled_all_the_same(
    serve: Serve, kind: Kind
) -> None:
    class Echoing(Noted):
        pass

    failed: list[str] = []
    served = await serve(Echoing, settings=SHORT, app=failing(failed, "_send"))
    client = await kind.open(served)
    assert await client.send_payload('["a"]') == 500
    assert await client.messages(1) == ["a"]
    await client.leave()
    await Echoing.until("close")
    assert Echoing.seen == ["open", "a", "close"]


@pytest.mark.not_over("lane-on")  # a middleware does not see each request
@pytest.mark.logs("ZeroDivisionError: mistake")
@every
async def test_other_sessions_go_on_while_one_fails(serve: Serve, kind: Kind) -> None:
    class Echoing(Noted):
        pass

    failed: list[str] = []
    served = await serve(Echoing, settings=SHORT, app=failing(failed, "/bad/xhr"))
    client = await kind.open(served)
    for _ in range(3):
        assert (await served.request("POST", "/0/bad/xhr", b"")).status == 500
    await client.send("a")
    assert await client.messages(1) == ["a"]
    await client.leave()
    assert len(failed) == 3
    await Echoing.until("close", 2)


async def in_time(answer: Awaitable[Any]) -> Any:
    """A time-out, for which Python makes a task before 3.12."""
    return await asyncio.wait_for(answer, 30)


async def apart(answer: Awaitable[Any]) -> Any:
    """What `asyncio.wait_for` did before Python 3.12."""
    task = asyncio.ensure_future(answer)
    await asyncio.wait([task])
    return task.result()


def replacing() -> web.Application:
    """Make an application that answers the second poll itself, as tools that patch aiohttp may."""
    polls: list[str] = []
    app = web.Application()
    handle = app._handle

    async def replace(request: web.Request) -> web.StreamResponse:
        response = await handle(request)
        if not request.path.endswith("/xhr"):
            return response
        polls.append(request.path)
        return web.Response(status=503) if len(polls) == 2 else response

    object.__setattr__(app, "_handle", replace)
    return app


def patch_handler(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Do the same with a method of aiohttp's protocol of a connection."""
    polls: list[str] = []

    def replaced(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        if not request.path.endswith("/xhr"):
            return response
        polls.append(request.path)
        return web.Response(status=503) if len(polls) == 2 else response

    method = getattr(RequestHandler, name)

    async def handle(self: RequestHandler, request: Any, start: Any, handler: Any) -> Any:
        async def answer(request: Any) -> web.StreamResponse:
            return replaced(request, await handler(request))

        return await method(self, request, start, answer)

    async def finish(self: RequestHandler, request: Any, response: Any, start: Any) -> Any:
        return await method(self, request, replaced(request, response), start)

    patches = {"_handle_request": handle, "finish_response": finish}
    monkeypatch.setattr(RequestHandler, name, patches[name])


@pytest.mark.parametrize("method", [None, "_handle_request", "finish_response"])
async def test_poll_whose_answer_a_tool_replaces_ends_with_it(
    serve: Serve, method: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(Recorder):
        pass

    if method is not None:
        patch_handler(monkeypatch, method)
    app = replacing() if method is None else None
    served = await serve(Ended, app=app, settings={**SHORT, "direct_requests": False})
    wire = await served.wire()
    path = f"{served.prefix}/000/1/xhr"
    assert (await wire.request("POST", path, "")).body == b"o\n"
    wire.send("POST", path, b"")
    await asyncio.sleep(0.05)
    Ended.connections[0].send("lost")
    assert (await wire.reply()).status == 503
    await Ended.until("close")
    info = Ended.connections[0].close_info
    assert info is not None
    assert (info.reason, info.initiator) == ("Connection lost", "network")
    await served.until_empty()
    # the connection, which may serve others by now, is not cut
    assert (await wire.request("GET", f"{served.prefix}/info")).status == 200
    wire.close()


async def test_websocket_whose_handshake_is_answered_a_second_time_leaves_nothing(
    serve: Serve,
) -> None:
    class Ended(Noted):
        pass

    @web.middleware
    async def replace(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        return web.Response(status=503) if response.status == 101 else response

    served = await serve(Ended, app=web.Application(middlewares=[replace]), settings=SHORT)
    client = await clients.WebSocket.open(served)
    await client.send("a")
    assert await client.messages(1) == ["a"]
    await client.leave()
    await Ended.until("close")
    await served.until_empty()
    async with async_timeout.timeout(5):
        while any(_is_aiohttps(task) for task in asyncio.all_tasks()):
            await asyncio.sleep(0)


def _is_aiohttps(task: "asyncio.Task[Any]") -> bool:
    return getattr(task.get_coro(), "__name__", "") == RequestHandler.start.__name__


@pytest.mark.parametrize("run", [in_time, apart, asyncio.shield])
@every
async def test_handlers_may_run_in_a_task_of_their_own(
    serve: Serve, kind: Kind, run: Callable[[Awaitable[Any]], Awaitable[Any]]
) -> None:
    class Echoing(Noted):
        pass

    @web.middleware
    async def elsewhere(request: web.Request, handler: Handler) -> web.StreamResponse:
        response: web.StreamResponse = await run(handler(request))
        return response

    app = web.Application(middlewares=[elsewhere])
    served = await serve(Echoing, settings=SHORT, app=app)
    client = await kind.open(served)
    for message in "abc":
        await client.send(message)
        assert await client.messages(1) == [message]
    await client.leave()
    await Echoing.until("close")
    assert Echoing.seen == ["open", "a", "b", "c", "close"]


@streams
async def test_stream_may_end_in_a_task_of_its_own(serve: Serve, kind: Kind) -> None:
    class Echoing(Noted):
        pass

    @web.middleware
    async def elsewhere(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await asyncio.shield(handler(request))

    app = web.Application(middlewares=[elsewhere])
    served = await serve(Echoing, settings={**SHORT, "response_limit": 1}, app=app)
    client = await kind.open(served)
    assert await client.frame() == b""
    await client.send("a")
    again = kind(served, {})
    again.path = client.path
    await again.connect()
    assert await again.messages(1) == ["a"]
    await again.leave()
    await client.leave()
