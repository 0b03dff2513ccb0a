"""What handlers of aio-libs' sockjs know of the request that opened their session, and who may.

Hooks of this package find what aiohttp-session has loaded, too.
"""

import json
import re
import time
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError, web

from sockjs_aio import ConnectionInfo, Grant, aiolibs
from sockjs_aio.aiolibs import (
    MsgType,
    Request,
    Session,
    SessionManager,
    SockjsMessage,
    add_endpoint,
    get_manager,
)
from tests import clients
from tests.axes import make_tasks_eager
from tests.conftest import Recorder, Serve
from tests.test_aiolibs import PAGE, Kind, Run, Seen, run, until

__all__ = ["run"]  # the fixture

aiohttp_session = pytest.importorskip("aiohttp_session")
# aiohttp-session 2.12 keeps its things under names that are strings
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")
every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)


class Shelf(aiohttp_session.AbstractStorage):  # type: ignore[name-defined,misc]
    """Keeps sessions at the server, as those in Redis are kept; the cookie has their number."""

    def __init__(self) -> None:
        super().__init__()
        self.data: dict[str, dict[str, Any]] = {}

    async def load_session(self, request: Any) -> Any:
        key = self.load_cookie(request)
        data = {"created": 0, "session": dict(self.data[key])} if key in self.data else None
        return aiohttp_session.Session(key, data=data, new=data is None)

    async def save_session(self, request: Any, response: Any, session: Any) -> None:
        self.data[session.identity] = dict(session)
        self.save_cookie(response, session.identity)


COOKIE = {"Cookie": "AIOHTTP_SESSION=7"}
"""Of a user who has logged in."""


async def serve_with_sessions(run: Run, shelf: Shelf, handler: Any, **options: Any) -> Any:
    app = web.Application()
    shelf.data["7"] = {"user": "ann"}
    aiohttp_session.setup(app, shelf)
    add_endpoint(app, handler, name="n", **options)
    return await run(app)


@every
@pytest.mark.parametrize("is_asked_before", [False, True])
async def test_get_session_works_on_the_request_of_a_session(
    run: Run, kind: Kind, is_asked_before: bool
) -> None:
    seen = Seen()

    async def authorize(request: web.Request) -> bool:
        http = await aiohttp_session.get_session(request)
        return "user" in http

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        http = await aiohttp_session.get_session(session.request)
        seen.append((msg.type.name, http["user"], http.setdefault("visits", 0)))
        http["visits"] += 1  # what is noted stays for this session's messages
        if msg.type == MsgType.MESSAGE:
            session.send(msg.data or "")

    options = {"authorize": authorize} if is_asked_before else {}
    served = await serve_with_sessions(run, Shelf(), handler, **options)
    client = await kind.open(served, headers=COOKIE)
    await client.send("a")
    assert await client.messages(1) == ["a"]
    await client.leave()
    await seen.until(("CLOSED", "ann", 3))
    types = ["OPEN", "MESSAGE", "CLOSE", "CLOSED"]
    assert seen == [(name, "ann", n) for n, name in enumerate(types)]


@every
async def test_sessions_that_are_kept_at_the_server_can_be_saved(run: Run, kind: Kind) -> None:
    shelf = Shelf()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        if msg.type == MsgType.MESSAGE and session.request is not None:
            http = await aiohttp_session.get_session(session.request)
            http["said"] = msg.data
            storage = session.request[aiohttp_session.STORAGE_KEY]
            await storage.save_session(session.request, web.Response(), http)
            session.send("saved")

    served = await serve_with_sessions(run, shelf, handler)
    client = await kind.open(served, headers=COOKIE)
    await client.send("hello")
    assert await client.messages(1) == ["saved"]
    assert shelf.data == {"7": {"user": "ann", "said": "hello"}}
    await client.leave()


async def test_programs_of_the_docs(run: Run) -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    gate, keep = [program for program in programs if "aiohttp_session" in program]
    app, shelf = web.Application(), Shelf()
    names: dict[str, Any] = {"aiohttp_session": aiohttp_session, "web": web}
    names |= {"sockjs": aiolibs, "app": app}
    exec(keep, names)
    exec(gate, names | {"chat": names["handler"]})
    shelf.data["7"] = {"user": "ann"}
    aiohttp_session.setup(app, shelf)
    served = await run(app)
    assert (await served.request("POST", "/0/x/xhr", b"")).status == 403
    client = await clients.Xhr.open(served, headers=COOKIE)
    await client.send("hello")
    await until(lambda: shelf.data == {"7": {"user": "ann", "said": "hello"}})
    await client.leave()


async def test_new_session_works_too(run: Run) -> None:
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        if msg.type == MsgType.OPEN:
            made = await aiohttp_session.new_session(session.request)
            assert await aiohttp_session.get_session(session.request) is made
            seen.append("new")

    client = await clients.WebSocket.open(await serve_with_sessions(run, Shelf(), handler))
    await seen.until("new")
    await client.leave()


USER: web.RequestKey[str] = web.RequestKey("USER", str)


@every
async def test_session_loaded_in_authorize_is_there_in_hooks(serve: Serve, kind: Kind) -> None:
    class Noted(Recorder):
        async def on_open(self, info: Any) -> None:
            http = await aiohttp_session.get_session(info)
            self.seen.append((info.identity, http["user"]))

    async def authorize(request: web.Request) -> Any:
        return (await aiohttp_session.get_session(request)).get("user")

    app, shelf = web.Application(), Shelf()
    shelf.data["7"] = {"user": "ann"}
    aiohttp_session.setup(app, shelf)
    served = await serve(Noted, app=app, authorize=authorize)
    await kind.open(served, headers=COOKIE)
    await Noted.until(("ann", "ann"))


@every
async def test_what_a_request_tells(run: Run, kind: Kind) -> None:
    seen: list[Request] = []

    @web.middleware
    async def name(request: web.Request, handler: Any) -> Any:
        request[USER] = "ann"
        return await handler(request)

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        assert session.request is not None and session.request is session.request
        if msg.type == MsgType.OPEN:
            seen.append(session.request)

    app = web.Application(middlewares=[name])
    add_endpoint(app, handler)
    client = await kind.open(await run(app), query="a=%C3%A4", headers={"Cookie": "c=d; e=f"})
    await until(lambda: seen)
    (request,) = seen
    assert request.remote == request.ip == "127.0.0.1"
    assert request.transport == kind.name and request.path.startswith("/sockjs/")
    assert request.query["a"] == "ä" and request.headers["host"]
    assert dict(request.cookies) == {"c": "d", "e": "f"} and request.app is app
    assert isinstance(request.info, ConnectionInfo)
    assert request[USER] == "ann" and list(request) == [USER]
    request["own"] = 1
    assert request.get("own") == 1 and len(request) == 2 and "own" not in request.info
    del request["own"], request[USER]
    assert not len(request) and request and request == request
    assert hash(request) and repr(request) == f"<Request {kind.name} from 127.0.0.1>"
    await client.leave()


@every
async def test_authorize_decides_before_the_handler_is_told(run: Run, kind: Kind) -> None:
    seen = Seen()

    async def authorize(request: web.Request) -> str | bool | None:
        if request.query.get("token") == "broken":
            raise web.HTTPUnauthorized
        if request.query.get("token") == "forgotten":
            return None
        return "ann" if request.query.get("token") == "right" else False

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        assert session.request is not None and session.request.identity == "ann"
        seen.append(msg.type)

    app = web.Application()
    add_endpoint(app, handler, name="n", authorize=authorize)
    served = await run(app)
    for token, status in [("wrong", 403), ("forgotten", 403), ("broken", 401)]:
        reply = await served.request("POST", f"/0/{token}/xhr?token={token}", b"")
        assert reply.status == status
        for path in ("/0/x/websocket", "/websocket"):
            with pytest.raises(WSServerHandshakeError) as error:
                await served.websocket(f"{path}?token={token}")
            assert error.value.status == status
    assert seen == [] and get_manager("n", app).sessions == {}
    client = await kind.open(served, query="token=right")
    await seen.until(MsgType.OPEN)
    await client.leave()


@pytest.mark.parametrize("authorize", ["yes", lambda request: True])
def test_authorize_that_cannot_be_meant_is_refused(authorize: Any) -> None:
    app = web.Application()
    with pytest.raises(TypeError, match="authorize"):
        add_endpoint(app, lambda manager, session, msg: None, authorize=authorize)
    assert len(app.router.routes()) == 0


@every
async def test_session_ends_with_its_authorization(run: Run, kind: Kind) -> None:
    seen = Seen()

    async def authorize(request: web.Request) -> Grant:
        return Grant("ann", until=time.time() + 0.3)

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        assert session.request is not None and session.request.identity == "ann"
        seen.append(msg.type)

    app = web.Application()
    settings = {"session_check_interval": 0.02}
    add_endpoint(app, handler, name="n", authorize=authorize, settings=settings)
    client = await kind.open(await run(app))
    while not (frame := await client.frame()).startswith(b"c"):
        assert frame in (b"h", b""), frame
    assert json.loads(frame[1:]) == [4401, "Authorization expired"]
    await until(lambda: seen == [MsgType.OPEN, MsgType.CLOSE, MsgType.CLOSED])


# asyncio.eager_task_factory runs a hook at once, before what has caused it has returned.


@every
@pytest.mark.parametrize("by", ["the handler", "another", "the manager"])
async def test_own_close_is_told_as_closed_alone_with_eager_tasks(
    run: Run, kind: Kind, by: str
) -> None:
    make_tasks_eager()
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)
        if msg.type == MsgType.MESSAGE:
            session.close(3001, "enough")

    app = web.Application()
    add_endpoint(app, handler, name="n")
    client = await kind.open(await run(app))
    await seen.until(MsgType.OPEN)
    if by == "the handler":
        await client.send("a")
    elif by == "another":
        (session,) = get_manager("n", app).active_sessions()
        session.close(3001, "enough")
    else:
        await get_manager("n", app).clear()
    await seen.until(MsgType.CLOSED)
    assert MsgType.CLOSE not in seen and seen.count(MsgType.CLOSED) == 1
    await client.leave()


@every
async def test_end_by_the_client_is_told_as_close_with_eager_tasks(run: Run, kind: Kind) -> None:
    make_tasks_eager()
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)

    app = web.Application()
    add_endpoint(app, handler, name="n", disconnect_delay=0.1)
    client = await kind.open(await run(app))
    await seen.until(MsgType.OPEN)
    await client.leave()
    await seen.until(MsgType.CLOSED)
    assert seen == [MsgType.OPEN, MsgType.CLOSE, MsgType.CLOSED]
