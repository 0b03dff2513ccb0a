"""What becomes of an answer between the moment when it is taken and the moment when it has left."""

import asyncio
import sys
import weakref
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, Session
from tests import clients
from tests.conftest import SHORT, Echo, Recorder, Serve

http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
POLL = ("POST", "/echo/0/1/xhr", b"")


@web.middleware
async def slow(request: web.Request, handler: Any) -> Any:
    """Take one's time with an answer, as one that writes an audit log does."""
    response = await handler(request)
    if request.path.endswith("/xhr"):
        await asyncio.sleep(0.2)
    return response


@pytest.mark.not_over("lane-on")  # a middleware does not see each request
@pytest.mark.parametrize("cancellation", [True, False])
async def test_answer_that_was_lost_in_a_middleware_interrupts(
    serve: Serve, cancellation: bool
) -> None:
    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)

    taken = asyncio.Event()

    @web.middleware
    async def outlast(request: web.Request, handler: Any) -> Any:
        response = await handler(request)
        if response.body == b'a["lost"]\n':
            taken.set()
            while request.transport is not None:
                await asyncio.sleep(0.001)
        return response

    app = web.Application(middlewares=[outlast])
    served = await serve(Noted, app=app, handler_cancellation=cancellation)
    assert await served.poll("/0/1") == b"o"
    wire = await served.wire()
    wire.send(*POLL)
    await served.post("/0/1", '["lost"]')
    await taken.wait()
    wire.abort()
    assert await served.poll("/0/1") == b'c[1002,"Connection interrupted"]'
    await Noted.until("close")
    assert Noted.seen == ["open", "close"]


@pytest.mark.logs("ZeroDivisionError: mistake")
async def test_answer_that_never_leaves_interrupts(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    is_failing = False

    def set_cookie(_request: web.Request, _response: web.StreamResponse) -> None:
        if is_failing:
            raise ZeroDivisionError("mistake")

    served = await serve(Noted, settings={"jsessionid": set_cookie})
    assert await served.poll("/0/1") == b"o"
    await Noted.until("open")
    Noted.connections[0].send("lost")
    is_failing = True
    assert (await served.request("POST", "/0/1/xhr", b"")).status == 500
    await Noted.until("close")
    is_failing = False
    assert await served.poll("/0/1") == b'c[1002,"Connection interrupted"]'


@pytest.mark.virtual_time
async def test_drain_waits_for_an_answer_in_a_middleware(serve: Serve) -> None:
    served = await serve(Echo, app=web.Application(middlewares=[slow]))
    assert await served.poll("/0/1") == b"o"
    wire = await served.wire()
    wire.send(*POLL)
    await asyncio.sleep(0.05)
    start = asyncio.get_running_loop().time()
    await served.router.drain()
    assert asyncio.get_running_loop().time() - start > 0.15
    assert (await wire.reply()).body == b'c[1012,"Service restart"]\n'


async def test_unread_answer_is_cut_off_by_the_next_poll(serve: Serve) -> None:
    class Large(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send("x" * 20_000_000)

    served = await serve(Large)
    assert await served.poll("/0/1") == b"o"
    assert await served.post("/0/1", '["a"]') == 204
    wire = await served.wire()
    wire.stop_reading()
    wire.send(*POLL)
    await Large.until("open")
    session = Large.connections[0].session
    while not session._liveness.is_delivering:
        await asyncio.sleep(0.001)
    assert await served.poll("/0/1") == b'c[1002,"Connection interrupted"]'
    await Large.until("close")
    buffered: list[int] = [
        handler.transport.get_write_buffer_size()
        for handler in served.http_connections()
        if handler.transport is not None
    ]
    assert sum(buffered) < 1_000_000


@pytest.mark.virtual_time
@http
async def test_idle_connection_keeps_no_session(serve: Serve, kind: type[clients.Client]) -> None:
    references: list[weakref.ref[Session]] = []

    class Closing(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            references.append(weakref.ref(self.session))

        async def on_message(self, message: str | bytes) -> None:
            self.close()

    served = await serve(Closing, settings=SHORT)
    client: Any = await kind.open(served)
    await client.send("a")
    method, url = client._request()
    while client.wire is not None and await client.frame() != b'c[3000,"Go away!"]':
        pass
    idle = await served.wire()
    body = b"" if method == "POST" else None
    await idle.request(method, served.prefix + client.path + url, body)
    await client.leave()
    await served.until_empty()
    await asyncio.sleep(0.02)
    assert [reference() for reference in references] == [None]


async def test_on_open_is_not_called_when_it_is_over(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    app = web.Application()

    async def wait(request: web.Request, _response: web.StreamResponse) -> None:
        if request.path.endswith("/xhr_streaming"):
            await asyncio.sleep(0.2)

    app.on_response_prepare.append(wait)
    served = await serve(Noted, app=app)
    wire = await served.wire()
    wire.send("POST", "/echo/0/1/xhr_streaming", b"")
    await asyncio.sleep(0.05)
    wire.abort()
    await asyncio.sleep(0.3)
    assert await served.poll("/0/1") == b'c[1002,"Connection interrupted"]'
    assert Noted.seen == []


@pytest.mark.logs("ZeroDivisionError: mistake")
async def test_constructor_that_closes_and_raises_leaves_nothing(serve: Serve) -> None:
    class Failing(Recorder):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            self.close()
            raise ZeroDivisionError("mistake")

    served = await serve(Failing)
    assert (await served.request("POST", "/0/1/xhr", b"")).status == 500
    registry = served.router._registry
    assert (len(registry), registry._clock._slots, registry._clock._task) == (0, {}, None)


if sys.version_info >= (3, 12):

    def eager(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        """As asyncio's, which in Python 3.13.0 does not take all that uvloop hands on."""
        return asyncio.Task(coroutine, loop=loop, **{**options, "eager_start": True})

    @http
    async def test_eager_tasks(serve: Serve, kind: type[clients.Client]) -> None:
        class Noted(Recorder):
            pass

        asyncio.get_running_loop().set_task_factory(eager)
        served = await serve(Noted, settings=SHORT)
        client = await kind.open(served)
        await client.send("a", "b")
        await Noted.until("b")
        client.abort()
        await Noted.until("close")
        assert Noted.seen == ["open", "a", "b", "close"]
        await served.until_empty()
