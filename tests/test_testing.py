"""The kit for tests of applications, `sockjs_aio.testing`."""

import asyncio
import subprocess
import sys
import unittest
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import pytest
from aiohttp import web

from sockjs_aio import (
    BrokerUnavailableError,
    CloseInfo,
    ConnectionInfo,
    Settings,
    SockJSConnection,
    SockJSRouter,
)
from sockjs_aio.client import ConnectError, ConnectionClosedError
from sockjs_aio.testing import TRANSPORTS, Client, client, linked_brokers, serve
from tests.conftest import Echo

Sockjs = Callable[..., Client]


class Noting(Echo):
    """Echoes, and notes how sessions end; each test derives a class of its own."""

    ends: ClassVar[list[CloseInfo]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.ends = []

    async def on_close(self) -> None:
        assert self.close_info is not None
        self.ends.append(self.close_info)


def app_of(connection: Any, settings: Any = None, **options: Any) -> web.Application:
    app = web.Application()
    SockJSRouter(connection, "/chat", settings, **options).attach(app)
    return app


async def test_client_talks_to_the_application(sockjs: Sockjs) -> None:
    class Chat(Noting):
        pass

    async with sockjs(app_of(Chat), "/chat") as socket:
        await socket.send("a", "b")
        assert [await socket.receive(), await socket.receive()] == ["a", "b"]
        assert isinstance(socket.connection, Chat)
        assert socket.connection.info.transport == socket.transport
        assert socket.close_info is None
    assert len(Chat.ends) == 1


async def test_clients_share_the_application(sockjs: Sockjs) -> None:
    class Chat(SockJSConnection):
        people: ClassVar[set["Chat"]] = set()

        async def on_open(self, info: ConnectionInfo) -> None:
            self.people.add(self)

        async def on_message(self, message: str) -> None:
            self.broadcast(self.people, message)

        async def on_close(self) -> None:
            self.people.remove(self)

    app = app_of(Chat)
    async with sockjs(app, "/chat") as ann, client(app, "/chat", transport="xhr") as bob:
        await ann.send("hi")
        assert await ann.receive() == await bob.receive() == "hi"
        assert ann.connection is not bob.connection
    assert not Chat.people


async def test_close_by_the_client_is_told(sockjs: Sockjs) -> None:
    class Chat(Noting):
        pass

    async with sockjs(app_of(Chat), "/chat") as socket:
        await socket.close(4000, "bye")
        ended = await socket.closed()
    if "websocket" in socket.transport:
        assert (ended.code, ended.reason, ended.initiator) == (4000, "bye", "client")
    else:
        assert (ended.code, ended.initiator) == (1006, "network")
    assert Chat.ends == [ended]


async def test_close_by_the_server_is_told_to_both_sides(sockjs: Sockjs) -> None:
    class Leaving(SockJSConnection):
        async def on_message(self, message: str) -> None:
            self.send("last")
            self.close(4001, message)

    async with sockjs(app_of(Leaving), "/chat") as socket:
        await socket.send("reason")
        assert await socket.receive() == "last"
        with pytest.raises(ConnectionClosedError, match="4001 reason"):
            await socket.receive()
        ended = await socket.closed()
        assert (ended.code, ended.reason, ended.initiator) == (4001, "reason", "server")
        assert (socket.close_code, socket.close_reason) == (4001, "reason")


async def test_iteration_ends_with_the_session(sockjs: Sockjs) -> None:
    class Listing(SockJSConnection):
        async def on_open(self, info: ConnectionInfo) -> None:
            for word in ("a", "b", "c"):
                self.send(word)
            self.close()

    async with sockjs(app_of(Listing), "/chat") as socket:
        assert [message async for message in socket] == ["a", "b", "c"]


async def test_dropped_client_is_a_loss_of_the_network(sockjs: Sockjs) -> None:
    class Chat(Noting):
        pass

    async with sockjs(app_of(Chat), "/chat") as socket:
        await socket.drop()
        ended = await socket.closed()
        assert (ended.code, ended.reason, ended.initiator) == (1006, "Connection lost", "network")
        with pytest.raises(ConnectionClosedError, match="1006"):
            await socket.receive()
    assert Chat.ends == [ended]


async def test_client_expires_without_waiting(sockjs: Sockjs) -> None:
    class Chat(Noting):
        pass

    loop = asyncio.get_running_loop()
    settings = Settings(disconnect_delay=1000, heartbeat_delay=1000)
    async with sockjs(app_of(Chat, settings), "/chat") as socket:
        await socket.send("a")
        assert await socket.receive() == "a"
        began = loop.time()
        await socket.expire()
        ended = await socket.closed()
        assert loop.time() - began < 100
    assert (ended.code, ended.initiator) == (1006, "timeout")
    is_websocket = "websocket" in socket.transport
    assert ended.reason == ("Ping not answered" if is_websocket else "Session expired")


async def test_vanished_client_is_not_noticed_at_once(sockjs: Sockjs) -> None:
    async with sockjs(app_of(Echo), "/chat") as socket:
        socket.vanish()
        await socket.send("into the void")
        socket.connection.send("nobody hears this")
        await asyncio.sleep(0.1)
        assert socket.close_info is None


async def test_stalled_client_goes_on(sockjs: Sockjs) -> None:
    seen = []

    class Chat(SockJSConnection):
        async def on_message(self, message: str) -> None:
            seen.append(message)
            self.send(message)

    async with sockjs(app_of(Chat), "/chat") as socket:
        socket.stall()
        await socket.send("later")
        await asyncio.sleep(0.05)
        assert seen == []
        socket.resume()
        assert await socket.receive() == "later"


async def test_client_that_does_not_read_is_too_slow(sockjs: Sockjs) -> None:
    class Flood(SockJSConnection):
        async def on_message(self, message: str) -> None:
            for _ in range(300):
                self.send("x" * 65536)

    async with sockjs(app_of(Flood, {"send_queue_limit": 1 << 20}), "/chat") as socket:
        socket.stop_reading()
        await socket.send("go")
        ended = await socket.closed()
    assert (ended.code, ended.reason, ended.initiator) == (1008, "Slow consumer", "overflow")


async def test_authorize_sees_headers_cookies_and_query(sockjs: Sockjs) -> None:
    async def authorize(request: web.Request) -> Any:
        given = request.headers.get("Authorization"), request.cookies.get("c"), request.query["q"]
        return given == ("Bearer x", "1", "2")

    app = app_of(Echo, authorize=authorize)
    who: Any = {"headers": {"Authorization": "Bearer x"}, "cookies": {"c": "1"}}
    async with serve(app):
        async with sockjs(app, "/chat?q=2", **who) as socket:
            await socket.send("in")
            assert await socket.receive() == "in"
        with pytest.raises(ConnectError, match="403 Forbidden"):
            async with sockjs(app, "/chat?q=2"):
                raise AssertionError("it must be refused")


async def test_what_does_not_come_is_an_assertion() -> None:
    async with client(app_of(SockJSConnection), "/chat", timeout=0.1) as socket:
        with pytest.raises(AssertionError, match=r"no message has come within 0\.1 s"):
            await socket.receive()
        with pytest.raises(AssertionError, match=r"the session has not ended within 0\.1 s"):
            await socket.closed()


async def test_application_ends_with_its_last_client() -> None:
    ended = []

    async def note(_app: web.Application) -> None:
        ended.append("cleanup")

    app = app_of(Echo)
    app.on_cleanup.append(note)
    async with client(app, "/chat"):
        assert ended == []
    assert ended == ["cleanup"]
    with pytest.raises(RuntimeError, match="make another one for each test"):
        async with client(app, "/chat"):
            raise AssertionError("the application has ended")


async def test_application_that_cannot_start_ends_what_has_started() -> None:
    seen = []

    async def good(_app: web.Application) -> AsyncIterator[None]:
        seen.append("begins")
        yield
        seen.append("ends")

    async def bad(_app: web.Application) -> None:
        raise ZeroDivisionError("mistake")

    app = app_of(Echo)
    app.cleanup_ctx.append(good)
    app.on_startup.append(bad)
    with pytest.raises(ZeroDivisionError):
        async with client(app, "/chat"):
            pass
    assert seen == ["begins", "ends"]
    with pytest.raises(RuntimeError, match="make another one for each test"):
        async with client(app, "/chat"):
            pass


async def test_served_application_takes_one_client_after_another() -> None:
    app = app_of(Echo)
    async with serve(app) as url:
        for _ in range(2):
            async with client(app, "/chat") as socket:
                await socket.send("a")
                assert await socket.receive() == "a"
        assert url.startswith("http://127.0.0.1:")


async def test_client_may_connect_again(sockjs: Sockjs) -> None:
    class Told(Noting):
        pass

    async def authorize(request: web.Request) -> bool:
        return request.headers.get("Authorization") == "x" and request.cookies.get("user") == "ann"

    app = app_of(Told, authorize=authorize)
    async with serve(app):
        again = sockjs(app, "/chat", headers={"Authorization": "x"}, cookies={"user": "ann"})
        for number in (1, 2):
            async with again as socket:
                await socket.send("a")
                assert await socket.receive() == "a"
            assert len(Told.ends) == number


def test_something_else_than_an_application_is_refused() -> None:
    router: Any = SockJSRouter(Echo, "/chat")
    with pytest.raises(TypeError, match="pass the aiohttp application"):
        client(router)


class Room(SockJSConnection):
    async def on_open(self, info: ConnectionInfo) -> None:
        await self.subscribe("room", member=info.query["name"])

    async def on_message(self, message: str) -> None:
        await self.publish("room", message)


async def test_linked_brokers_stand_for_several_processes() -> None:
    here, there = linked_brokers()
    one, two = app_of(Room, broker=here), app_of(Room, broker=there)
    async with client(one, "/chat?name=ann") as ann, client(two, "/chat?name=bob") as bob:
        await ann.send("hello")
        assert await ann.receive() == await bob.receive() == "hello"
        assert await here.members("room") == await there.members("room") == {"ann", "bob"}
        here.cut()
        assert (here.state, there.state) == ("reconnecting", "connected")
        await ann.send("alone")
        assert await ann.receive() == "alone"
        with pytest.raises(BrokerUnavailableError):
            await here.members("room")
        assert await there.members("room") == {"bob"}
        here.mend()
        assert (here.state, here.gaps) == ("connected", 1)
        await bob.send("back")
        assert await bob.receive() == await ann.receive() == "back"
    assert here.state == "stopped"


async def test_linked_brokers_close_the_sessions_of_a_channel_everywhere() -> None:
    here, there = linked_brokers()
    one, two = app_of(Room, broker=here), app_of(Room, broker=there)
    async with client(one, "/chat?name=ann") as ann, client(two, "/chat?name=bob") as bob:
        await here.close_channel("room", 4001, "Logged out")
        for person in (ann, bob):
            with pytest.raises(ConnectionClosedError, match="4001"):
                await person.receive()


async def test_broker_that_is_cut_off_raises_if_asked_for() -> None:
    here, _ = linked_brokers(on_unavailable="raise")
    app = app_of(Echo, broker=here)
    async with client(app, "/chat"):
        here.cut()
        with pytest.raises(BrokerUnavailableError, match="cut off"):
            await here.publish("room", "x")
    with pytest.raises(ValueError, match='"drop" or "raise"'):
        linked_brokers(on_unavailable="ignore")


class TestWithUnittest(unittest.IsolatedAsyncioTestCase):
    """The kit needs no pytest."""

    async def test_every_transport(self) -> None:
        for transport in TRANSPORTS:
            with self.subTest(transport):
                async with client(app_of(Echo), "/chat", transport=transport) as socket:
                    await socket.send("a")
                    self.assertEqual(await socket.receive(), "a")
                    await socket.expire()
                    ended = await socket.closed()
                    self.assertEqual(ended.initiator, "timeout")


@pytest.mark.programs
def test_kit_does_not_need_pytest() -> None:
    program = "import sys; sys.modules['pytest'] = None; import sockjs_aio.testing"
    subprocess.run([sys.executable, "-c", program], check=True)
