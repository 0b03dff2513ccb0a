"""A broker of an application's own that raises: its channels suffer, sessions do not."""

import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSRouter
from sockjs_aio.brokers.memory import MemoryBroker
from tests import clients
from tests.conftest import SHORT, Echo, Recorder, Serve

ALL = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)


class Faulty(MemoryBroker):
    """Raises where no broker should."""

    def listen(self, channel: str) -> None:
        if channel == "unheard":
            raise ZeroDivisionError("listen")

    def unlisten(self, channel: str) -> None:
        raise ZeroDivisionError("unlisten")

    def withdraw(self, channel: str, member: str) -> None:
        raise ZeroDivisionError("withdraw")


@pytest.mark.virtual_time
@ALL
@pytest.mark.logs("ZeroDivisionError")
async def test_sessions_end_although_their_broker_fails(
    serve: Serve, kind: type[clients.Client]
) -> None:
    class Subscribed(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            for channel in ("a", "b"):
                await self.subscribe(channel, member="ann")

    served = await serve(Subscribed, settings=SHORT, broker=Faulty())
    for _ in range(2):
        client = await kind.open(served)
        await Subscribed.until("open")
        await client.leave()
        await Subscribed.until("close")
        assert Subscribed.seen == ["open", "close"]
        await served.until_empty()
        Subscribed.forget()
        assert served.router.subscribers("a") == []
    client = await kind.open(served)
    await Subscribed.until("open")
    await served.router.publish("a", "once")
    await served.router.publish("b", "end")
    assert await client.messages(2) == ["once", "end"]
    await client.leave()


@pytest.mark.logs("ZeroDivisionError: listen")
async def test_session_ends_although_its_subscription_failed(serve: Serve) -> None:
    class Subscribed(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            await self.subscribe("unheard")

    served = await serve(Subscribed, settings=SHORT, broker=Faulty())
    client = await clients.WebSocket.open(served)
    assert await client.frame() == b'c[1011,"Internal error"]'
    await client.leave()
    await Subscribed.until("close")
    assert Subscribed.seen == ["open", "close"]
    await served.until_empty()


@pytest.mark.logs("ZeroDivisionError: disconnect")
async def test_shutdown_goes_on_although_a_broker_fails_to_disconnect() -> None:
    class Undisconnected(MemoryBroker):
        async def disconnect(self) -> None:
            raise ZeroDivisionError("disconnect")

    done: list[str] = []

    async def note_shutdown(_app: web.Application) -> None:
        done.append("shutdown")

    async def note_cleanup(_app: web.Application) -> None:
        done.append("cleanup")

    app = web.Application()
    SockJSRouter(Echo, "/echo", broker=Undisconnected()).attach(app)
    app.on_shutdown.append(note_shutdown)
    app.on_cleanup.append(note_cleanup)
    runner = web.AppRunner(app)
    await runner.setup()
    await runner.cleanup()
    assert done == ["shutdown", "cleanup"]
