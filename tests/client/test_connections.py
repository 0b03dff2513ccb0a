"""The Python client, against this server, on every transport."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection
from sockjs_aio.client import TRANSPORTS, ClientOptions, ConnectionClosedError, connect
from tests.conftest import PATIENCE, SHORT, Echo, Recorder, Serve

ALL = ("rawwebsocket", *TRANSPORTS)
HTTP = [name for name in TRANSPORTS if name != "websocket"]

every_transport = pytest.mark.parametrize("name", ALL)


@every_transport
async def test_messages_come_back_in_order(serve: Serve, name: str) -> None:
    served = await serve(Echo, settings={"response_limit": 4096})
    sent = [f"{number}" * 20 for number in range(300)]
    async with connect(served.url(), transports=name, session=served.session) as socket:
        assert socket.transport == name
        for message in sent:
            await socket.send(message)
        assert [await socket.receive() for _ in sent] == sent


@every_transport
async def test_any_text_comes_back_as_it_was(serve: Serve, name: str) -> None:
    served = await serve(Echo)
    texts = ["", "%41 100% %25", "ä€😀", "\u2028\u200c</script>\\\"'\r\n\0", '["a"]', "a" * 70000]
    if name != "rawwebsocket":
        texts.append("\ud800 alone")
    async with connect(served.url(), transports=name, session=served.session) as socket:
        for text in texts:
            await socket.send(text)
            assert await socket.receive() == text


@every_transport
async def test_values_that_are_no_strings_come_as_with_sockjs_client(
    serve: Serve, name: str
) -> None:
    values = [{"id": 1, "names": ["ä", None]}, [], 7, 0.5, True, None, "text", {"a": "b" * 70000}]

    class Values(SockJSConnection):
        async def on_message(self, message: str) -> None:
            for value in values * 20:  # what the adapters do for anything but text
                self.session.send_json(json.dumps(value))

    served = await serve(Values)
    options = ClientOptions(receive_queue_limit=1000)
    async with connect(
        served.url(), transports=name, session=served.session, options=options
    ) as socket:
        await socket.send("go")
        got = [await socket.receive() for _ in values * 20]
        assert (list(map(json.loads, got)) if name == "rawwebsocket" else got) == values * 20


@every_transport
async def test_iteration_ends_when_the_server_closes(serve: Serve, name: str) -> None:
    class Parting(SockJSConnection):
        async def on_message(self, message: str) -> None:
            self.send("last words")
            self.close()

    served = await serve(Parting)
    async with connect(served.url(), transports=name, session=served.session) as socket:
        await socket.send("go")
        assert [message async for message in socket] == ["last words"]
    assert (socket.close_code, socket.close_reason) == (3000, "Go away!")


@every_transport
async def test_close_code_of_the_server_is_raised_after_the_messages(
    serve: Serve, name: str
) -> None:
    class Refusing(SockJSConnection):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.send("first")
            self.close(4001, "unknown user")

    served = await serve(Refusing)
    received = []
    async with connect(served.url(), transports=name, session=served.session) as socket:
        with pytest.raises(ConnectionClosedError, match="4001 unknown user") as error:
            async for message in socket:
                received.append(message)
        assert (error.value.code, error.value.reason) == (4001, "unknown user")
        with pytest.raises(ConnectionClosedError, match="4001 unknown user"):
            await socket.send("too late")
    assert received == ["first"]


@every_transport
async def test_what_was_sent_before_close_arrives(serve: Serve, name: str) -> None:
    class Seen(Recorder):
        pass

    served = await serve(Seen)
    async with connect(served.url(), transports=name, session=served.session) as socket:
        for number in range(2500):
            await socket.send(str(number))
    await Seen.until("close")
    assert Seen.seen == ["open", *map(str, range(2500)), "close"]
    assert (socket.close_code, socket.close_reason) == (1000, "")


@pytest.mark.parametrize("name", ["websocket", "rawwebsocket"])
async def test_websocket_takes_code_and_reason_to_the_server(serve: Serve, name: str) -> None:
    class Seen(Recorder):
        pass

    served = await serve(Seen)
    async with connect(served.url(), transports=name, session=served.session) as socket:
        await socket.close(4002, "moved on")
        assert [message async for message in socket] == []
        with pytest.raises(ConnectionClosedError, match="4002 moved on"):
            await socket.receive()
    await Seen.until("close")
    info = Seen.connections[0].close_info
    assert info is not None
    assert (info.code, info.reason, info.initiator) == (4002, "moved on", "client")


@pytest.mark.logs("the client gives up its connection over xhr\nTraceback")
async def test_callback_that_fails_ends_the_connection(serve: Serve) -> None:
    served = await serve(Echo, settings=SHORT)
    async with connect(served.url(), transports="xhr", session=served.session) as socket:
        socket.on_heartbeat = lambda: 1 // 0
        with pytest.raises(ConnectionClosedError, match="the client failed: ZeroDivisionError"):
            await socket.receive()


@pytest.mark.logs("the client cannot send to its connection over HTTP\nTraceback")
@pytest.mark.parametrize("name", HTTP)
async def test_a_send_that_fails_in_any_way_ends_the_connection(serve: Serve, name: str) -> None:
    """Later messages do not go out as if nothing was missing."""

    class Seen(Recorder):
        pass

    async def fail_once(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if request.url.path.endswith("_send") and "one" in Seen.seen:
            raise LookupError("no token")
        return await handler(request)

    served = await serve(Seen, tls=None)
    connector = aiohttp.TCPConnector(ssl=served.tls or True)
    async with (
        async_timeout.timeout(PATIENCE),
        aiohttp.ClientSession(connector=connector, middlewares=[fail_once]) as session,
        connect(served.url(), transports=name, session=session) as socket,
    ):
        await socket.send("one")
        await Seen.until("one")
        await socket.send("two")
        with pytest.raises(ConnectionClosedError, match="1006 the client failed: LookupError"):
            await socket.receive()
    await Seen.until("close")
    assert Seen.seen == ["open", "one", "close"]


@every_transport
async def test_slow_reader_leaves_what_comes_to_the_network(serve: Serve, name: str) -> None:
    class Flood(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(message)
            for number in range(100):
                self.send(f"{number:1000}")

    served = await serve(Flood, settings={"disconnect_delay": 60})
    options = ClientOptions(receive_queue_limit=5000)
    target: Any = {"transports": name, "session": served.session, "options": options}
    async with connect(served.url(), **target) as socket:
        await socket.send("go")
        await Flood.until("go")
        frames = 0
        received = []
        for _ in range(100):
            received.append(int(await socket.receive()))
            frames += socket._size > 5000 + 66000
        assert received == list(range(100))
        assert frames == 0, "the queue has its limit, and at most one frame more"


@pytest.mark.parametrize("name", HTTP)
async def test_send_waits_while_its_queue_is_full(serve: Serve, name: str) -> None:
    go_on = asyncio.Event()
    seen = []

    class Slow(SockJSConnection):
        async def on_message(self, message: str) -> None:
            await go_on.wait()
            seen.append(message)

    served = await serve(Slow, settings={"receive_queue_limit": 1})
    options = ClientOptions(send_queue_limit=1000)
    target: Any = {"transports": name, "session": served.session, "options": options}
    async with connect(served.url(), **target) as socket:
        sending = asyncio.create_task(send_all(socket, 20))
        done, _ = await asyncio.wait([sending], timeout=0.2)
        assert not done
        go_on.set()
        await sending
    assert seen == [f"{number:200}" for number in range(20)]


async def send_all(socket: Any, count: int) -> None:
    for number in range(count):
        await socket.send(f"{number:200}")


@pytest.mark.parametrize("name", HTTP)
async def test_messages_that_wait_share_a_request(serve: Serve, name: str) -> None:
    requests = 0

    @web.middleware
    async def count(request: web.Request, handler: Any) -> web.StreamResponse:
        nonlocal requests
        requests += request.path.endswith("_send")
        response: web.StreamResponse = await handler(request)
        return response

    class Seen(Recorder):
        pass

    served = await serve(Seen, app=web.Application(middlewares=[count]))
    async with connect(served.url(), transports=name, session=served.session) as socket:
        for number in range(100):
            await socket.send(str(number))
    await Seen.until("99")
    assert 1 <= requests <= 3


async def test_heartbeats_keep_silent_connections(serve: Serve) -> None:
    served = await serve(Echo, settings=SHORT | {"disconnect_delay": 5})
    options = ClientOptions(heartbeat_timeout=1)

    async def wait(name: str) -> None:
        target: Any = {"transports": name, "session": served.session, "options": options}
        async with connect(served.url(), **target) as socket:
            with pytest.raises(asyncio.TimeoutError):
                async with async_timeout.timeout(1.5):
                    await socket.receive()
            await socket.send("still here")
            assert await socket.receive() == "still here"

    await asyncio.gather(*map(wait, ALL))


@every_transport
async def test_a_process_that_was_held_up_does_not_take_that_for_silence(
    serve: Serve, name: str
) -> None:
    limit = 0.4

    class Late(SockJSConnection):
        async def on_message(self, message: str | bytes) -> None:
            asyncio.get_running_loop().call_later(0.05, self.hold_up)

        def hold_up(self) -> None:
            time.sleep(2 * limit)  # the client's timer is due before it can read what comes now
            self.send("late")

    served = await serve(Late)
    options = ClientOptions(heartbeat_timeout=limit)
    async with connect(
        served.url(), transports=name, session=served.session, options=options
    ) as socket:
        await socket.send("")
        assert await socket.receive() == "late"


@every_transport
async def test_headers_and_cookies_are_those_of_the_session(serve: Serve, name: str) -> None:
    class Who(SockJSConnection):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.send(f"{info.headers['X-User']} {info.cookies['token']} {info.query['page']}")

    served = await serve(Who, tls=None)
    jar = aiohttp.CookieJar(unsafe=True)
    connector = aiohttp.TCPConnector(ssl=served.tls or True)
    async with aiohttp.ClientSession(
        headers={"X-User": "ann"}, cookies={"token": "t1"}, cookie_jar=jar, connector=connector
    ) as session:
        url = served.url("?page=7")
        async with connect(url, transports=name, session=session) as socket:
            assert await socket.receive() == "ann t1 7"
        assert not session.closed


@every_transport
async def test_nothing_is_left_of_a_connection(serve: Serve, name: str) -> None:
    served = await serve(Echo, settings=SHORT)
    before = asyncio.all_tasks()
    async with connect(served.url(), transports=name, session=served.session) as socket:
        await socket.send("a")
        assert await socket.receive() == "a"
    await served.until_empty()
    async with async_timeout.timeout(PATIENCE):
        while {task for task in asyncio.all_tasks() - before if "client" in repr(task.get_coro())}:
            await asyncio.sleep(0.001)
