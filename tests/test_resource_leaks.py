"""Nothing is left of a session that is over: no task, no object, no timer."""

import asyncio
import collections
import gc
import logging
import weakref
from typing import Any, ClassVar

import async_timeout
import pytest

from sockjs_aio import ConnectionInfo, Session
from sockjs_aio.protocol.session_machine import SessionMachine
from tests import clients
from tests.conftest import SHORT, Recorder, Serve

Kind = type[clients.Client]


def tasks_of_the_package() -> list[str]:
    names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    return [name for name in names if name.startswith(("Clock", "Hooks", "ConnectionWriter"))]


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize("way", ["abort", "leave", "close", "raise", "reject"])
@pytest.mark.parametrize("cancellation", [True, False])
async def test_nothing_is_left(
    serve: Serve, kind: Kind, way: str, cancellation: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a log record that pytest keeps has the frames of the hook that raised
    monkeypatch.setattr(logging.getLogger("sockjs_aio.hooks"), "disabled", True)
    references: list[weakref.ref[object]] = []

    class Noted(Recorder):
        async def on_open(self, info: ConnectionInfo) -> object:
            references.extend([weakref.ref(self), weakref.ref(self.session)])
            self.seen.append("open")
            return way != "reject"

        async def on_message(self, message: str | bytes) -> None:
            if way == "close":
                self.close()
            elif way == "raise":
                raise ZeroDivisionError("mistake")

    served = await serve(Noted, settings=SHORT, handler_cancellation=cancellation)
    for _ in range(10):
        client = await kind.open(served)
        if way in ("close", "raise"):
            await client.send("a")
        if way in ("abort", "leave"):
            client.abort() if way == "abort" else await client.leave()
        else:
            while (await client.frame())[:1] not in (b"c", b""):
                pass
            await client.leave()
    await Noted.until("close", 10)
    await served.until_empty()
    await asyncio.sleep(0.02)
    assert len(references) == 20
    gc.disable()
    try:
        alive = [reference() for reference in references if reference() is not None]
        # the last request's objects stay with their connection until aiohttp lets go of it
        assert len(alive) <= 2, alive
        del alive
    finally:
        gc.enable()
    gc.collect()
    assert [reference for reference in references if reference() is not None] == []
    assert tasks_of_the_package() == []
    assert Noted.seen.count("close") == Noted.seen.count("open") == 10


async def test_idle_polling_session_owns_no_task(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    for number in range(10):
        await served.poll(f"/0/{number}")
        await served.post(f"/0/{number}", '["a"]')
    await Noted.until("a", 10)
    await asyncio.sleep(0.02)
    assert tasks_of_the_package() == ["Clock._run"]


async def test_poll_makes_no_task(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    wire = await served.wire()
    await wire.request("POST", "/echo/0/1/xhr", b"")
    await Noted.until("open")
    made = []
    loop = asyncio.get_running_loop()
    create_task = loop.create_task

    def counting(coroutine: Any, **options: Any) -> Any:
        made.append(coroutine.__qualname__)
        return create_task(coroutine, **options)

    monkeypatch.setattr(loop, "create_task", counting, raising=False)
    for _ in range(5):
        Noted.connections[0].send("x")
        assert (await wire.request("POST", "/echo/0/1/xhr", b"")).body == b'a["x"]\n'
    assert [name for name in made if name.startswith("Hooks")] == []


async def test_websocket_owns_no_task_of_ours(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    before = len(asyncio.all_tasks())
    members = [await clients.WebSocket.open(served) for _ in range(10)]
    await asyncio.gather(*(member.send("a") for member in members))
    await Noted.until("a", 10)
    assert tasks_of_the_package() == ["Clock._run"]
    # aiohttp has two tasks for a connection: its own, and inside it the handler's
    assert len(asyncio.all_tasks()) - before <= 2 * 10 + 1
    await asyncio.gather(*(member.leave() for member in members))


def sessions_and_machines() -> list[object]:
    return [thing for thing in gc.get_objects() if isinstance(thing, (Session, SessionMachine))]


@pytest.mark.one_python  # it takes long, and the others would find what a version keeps
@pytest.mark.timeout(240)
async def test_ten_thousand_sessions_come_and_go(serve: Serve) -> None:
    class Noted(Recorder):
        count = opened = 0
        ends: ClassVar[collections.Counter[str]] = collections.Counter()

        async def on_open(self, info: ConnectionInfo) -> None:
            Noted.count += 1
            Noted.opened += 1

        async def on_message(self, message: str | bytes) -> None:
            self.close()

        async def on_close(self) -> None:
            assert self.close_info is not None
            Noted.count -= 1
            Noted.ends[self.close_info.initiator] += 1

    served = await serve(Noted, settings={**SHORT, "disconnect_delay": 5})
    gc.collect()
    before = set(map(id, sessions_and_machines()))  # of earlier tests, in their classes

    async def come_and_go(worker: int) -> None:
        wire = await served.wire()
        for number in range(500):
            path = f"/echo/0/{worker}-{number}"
            assert (await wire.request("POST", path + "/xhr", b"")).body == b"o\n"
            if number % 3 == 1:  # and else it expires
                assert (await wire.request("POST", path + "/xhr_send", '["close"]')).status == 204
                reply = await wire.request("POST", path + "/xhr", b"")
                assert reply.body == b'c[3000,"Go away!"]\n'
            elif number % 3 == 2:
                lost = await served.wire()
                lost.send("POST", path + "/xhr", b"")
                await asyncio.sleep(0.001)
                lost.abort()
        wire.close()

    await asyncio.gather(*(come_and_go(worker) for worker in range(20)))
    async with async_timeout.timeout(20):
        while served.router.session_count:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.02)
    assert sum(Noted.ends.values()) == Noted.opened
    # a poll that comes later than that, on a machine that has much to do, opens another session
    assert 10_000 <= Noted.opened <= 10_020
    assert Noted.ends["server"] == 20 * 167
    assert Noted.ends["network"] > 2000, "of 3320; with others the reset was faster than the poll"
    assert Noted.count == 0
    gc.collect()
    assert [thing for thing in sessions_and_machines() if id(thing) not in before] == []
    assert tasks_of_the_package() == []
