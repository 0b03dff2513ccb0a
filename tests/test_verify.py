"""Who knows the id of another user's session: `verify` keeps them out."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSRouter
from tests import clients
from tests.conftest import SHORT, Echo, Recorder, Serve, Served
from tests.openers import REQUESTS, ask

USER = web.RequestKey("user", str)
EXPIRED = b'c[1002,"Session expired"]\n'

http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
Kind = type[clients.Client]


async def start_pair(serve: Serve, verify: Any, **settings: Any) -> tuple[Served, type[Recorder]]:
    """Run a service where the cookie is the user."""

    class Noted(Recorder):
        pass

    async def authorize(request: web.Request) -> bool:
        if "user" not in request.cookies:
            raise web.HTTPUnauthorized
        request[USER] = request.cookies["user"]
        return True

    app = web.Application()
    router = SockJSRouter(Noted, "/bound", settings, authorize=authorize, verify=verify)
    router.attach(app)
    served = await serve(Echo, app=app)
    served.prefix, served.router = "/bound", router
    return served, Noted


def same_cookie(request: web.Request, info: ConnectionInfo) -> bool:
    return request.cookies.get("user") == info[USER]


ANN, BOB = {"Cookie": "user=ann"}, {"Cookie": "user=bob"}
OTHERS = [BOB, {}]


@http
@pytest.mark.parametrize("other", OTHERS, ids=["another user", "nobody"])
async def test_without_verify_the_id_is_enough(
    serve: Serve, kind: Kind, other: dict[str, str]
) -> None:
    served, noted = await start_pair(serve, None)
    client = await kind.open(served, headers=ANN)
    path = f"{client.path}/xhr_send"
    assert (await served.request("POST", path, '["a"]', headers=other)).status == 204
    await noted.until("a")
    assert noted.connections[0].info[USER] == "ann"
    await client.leave()


@http
@pytest.mark.parametrize("other", OTHERS, ids=["another user", "nobody"])
async def test_verify_keeps_others_out(serve: Serve, kind: Kind, other: dict[str, str]) -> None:
    served, noted = await start_pair(serve, same_cookie)
    client = await kind.open(served, headers=ANN)
    for name in ("xhr_send", "jsonp_send"):
        path = f"{client.path}/{name}"
        assert (await served.request("POST", path, '["a"]', headers=other)).status == 403
    for method, path in REQUESTS:
        if "websocket" not in path:
            path = path.replace("/0/1", client.path)
            assert (await ask(served, method, path, **other)).status == 403
    await client.send("b")
    await noted.until("b")
    noted.connections[0].send("c")
    assert await client.messages(1) == ["c"]  # its poll was not disturbed
    assert noted.seen == ["open", "b"]
    await client.leave()


async def test_verify_holds_for_who_comes_second_to_a_new_session(serve: Serve) -> None:
    """Both are asked whether they may open it; it belongs to the faster."""
    gate = asyncio.Event()

    class Noted(Recorder):
        pass

    async def authorize(request: web.Request) -> bool:
        request[USER] = request.cookies["user"]
        if request[USER] == "bob":
            await gate.wait()
        return True

    app = web.Application()
    SockJSRouter(Noted, "/bound", authorize=authorize, verify=same_cookie).attach(app)
    served = await serve(Echo, app=app)
    served.prefix = "/bound"
    bob = asyncio.ensure_future(served.request("POST", "/0/1/xhr", b"", headers=BOB))
    assert await served.poll("/0/1", headers=ANN) == b"o"
    gate.set()
    assert (await bob).status == 403


async def test_websockets_with_the_same_id_are_sessions_of_their_own(serve: Serve) -> None:
    served, noted = await start_pair(serve, same_cookie)
    ann = await clients.Xhr.open(served, headers=ANN)
    bob = clients.WebSocket(served, {"headers": BOB})
    bob.path = ann.path
    await bob.connect()
    assert await bob.frame() == b"o"
    await noted.until("open", 2)
    for connection in noted.connections:
        connection.send(connection.info[USER])
    assert await ann.messages(1) == ["ann"]
    assert await bob.messages(1) == ["bob"]
    await ann.leave()
    await bob.leave()


@pytest.mark.parametrize("answer", [False, None, 0, 1, "yes"])
async def test_anything_but_true_refuses(serve: Serve, answer: Any) -> None:
    served, _ = await start_pair(serve, lambda request, info: answer)
    assert await served.poll("/0/1", headers=ANN) == b"o"
    assert await served.post("/0/1", '["a"]', headers=ANN) == 403


async def test_verify_may_refuse_with_a_status_of_its_own(serve: Serve) -> None:
    def verify(request: web.Request, info: ConnectionInfo) -> bool:
        raise web.HTTPUnauthorized

    served, _ = await start_pair(serve, verify)
    assert await served.poll("/0/1", headers=ANN) == b"o"
    assert await served.post("/0/1", '["a"]', headers=ANN) == 401


def test_verify_that_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="verify must be a function"):
        SockJSRouter(Echo, "/x", verify="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [True, False, None, "yes"])
async def test_verify_may_be_a_coroutine_function(serve: Serve, answer: Any) -> None:
    async def verify(request: web.Request, info: ConnectionInfo) -> Any:
        await asyncio.sleep(0)
        return answer

    app = web.Application()
    SockJSRouter(Echo, "/bound", verify=verify).attach(app)
    served = await serve(Echo, app=app)
    served.prefix = "/bound"
    assert await served.poll("/0/1") == b"o"
    assert await served.post("/0/1", '["a"]') == (204 if answer is True else 403)


async def test_verify_that_does_not_answer_in_time_is_503(serve: Serve) -> None:
    async def verify(request: web.Request, info: ConnectionInfo) -> bool:
        await asyncio.sleep(60)
        return True

    app = web.Application()
    SockJSRouter(Echo, "/bound", {"authorize_timeout": 0.05}, verify=verify).attach(app)
    served = await serve(Echo, app=app)
    served.prefix = "/bound"
    assert await served.poll("/0/1") == b"o"
    assert await served.post("/0/1", '["a"]') == 503


@pytest.mark.virtual_time
async def test_session_that_expires_while_a_send_is_verified_is_404(serve: Serve) -> None:
    gate = asyncio.Event()

    async def verify(request: web.Request, info: ConnectionInfo) -> bool:
        await gate.wait()
        return True

    app = web.Application()
    router = SockJSRouter(Echo, "/bound", SHORT, verify=verify)
    router.attach(app)
    served = await serve(Echo, app=app)
    served.prefix, served.router = "/bound", router
    assert await served.poll("/0/1") == b"o"
    send = asyncio.ensure_future(served.post("/0/1", '["a"]'))
    await served.until_empty()
    gate.set()
    assert await send == 404


async def test_verify_is_asked_again_for_a_session_that_came_meanwhile(serve: Serve) -> None:
    asked: list[str] = []
    go_on = asyncio.Event()

    async def slow(request: web.Request, info: ConnectionInfo) -> bool:
        asked.append(info[USER])
        await go_on.wait()
        return same_cookie(request, info)

    served, noted = await start_pair(serve, slow, **SHORT, ended_session_delay=0.001)
    opened = await served.request("POST", "/0/1/xhr", b"", headers=BOB)
    assert opened.body == b"o\n"
    sending = asyncio.create_task(served.request("POST", "/0/1/xhr_send", '["a"]', headers=BOB))
    while not asked:
        await asyncio.sleep(0.001)
    await noted.until("close")
    await served.until_empty()
    opened = await served.request("POST", "/0/1/xhr", b"", headers=ANN)
    while opened.body == EXPIRED:  # until the id is forgotten
        opened = await served.request("POST", "/0/1/xhr", b"", headers=ANN)
    assert opened.body == b"o\n"
    go_on.set()
    assert (await sending).status == 403
    assert asked == ["bob", "ann"]
    await noted.until("close", 2)
    assert "a" not in noted.seen
