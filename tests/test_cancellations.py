"""Hooks of one session do not see each other's cancellations, nor do those of different sessions.

A hook may cancel its own task without waiting afterwards, and something may cancel it later.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection, aiolibs
from sockjs_aio.multiplex import MultiplexConnection
from sockjs_aio.testing.brokers import linked_brokers
from sockjs_aio.tornado import multiplex as tornado_multiplex
from tests import clients
from tests.brokers.test_gaps import interrupt
from tests.conftest import SHORT, Recorder, Serve
from tests.ports import free_port
from tests.process import ServerProcess
from tests.test_aiolibs import Run, run
from tests.test_tornado import Old, Start, start

__all__ = ["run", "start"]  # fixtures

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
two = pytest.mark.parametrize("kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name)
waits = pytest.mark.parametrize("waits", [False, True], ids=["at-once", "after-waiting"])
Kind = type[clients.Client]


def cancel_own_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def cancellations() -> int:
    """Return how many cancellations of the current task are under way (Python 3.11)."""
    task: Any = asyncio.current_task()
    return int(task.cancelling()) if hasattr(task, "cancelling") else 0


async def can_wait() -> None:
    """Wait as a hook does, and use a timeout that passes; fail if a cancellation comes."""
    assert cancellations() == 0
    await asyncio.sleep(0)
    with pytest.raises(asyncio.TimeoutError):
        async with async_timeout.timeout(0.001):
            await asyncio.sleep(60)
    assert cancellations() == 0


class Careless(Recorder):
    """Each of its hooks cancels its own task in its last step."""

    waits: bool

    async def on_open(self, info: ConnectionInfo) -> None:
        await super().on_open(info)
        await self.end()

    async def on_message(self, message: str | bytes) -> None:
        await can_wait()
        await super().on_message(message)
        await self.end()

    async def on_gap(self, channel: str) -> None:
        await can_wait()
        self.seen.append(f"gap {channel}")
        await self.end()

    async def on_close(self) -> None:
        await can_wait()
        await super().on_close()
        await self.end()

    async def end(self) -> None:
        if self.waits:
            await asyncio.sleep(0)
        cancel_own_task()


def careless(waits: bool) -> type[Careless]:
    return type("Careless", (Careless,), {"waits": waits})


@every
@waits
async def test_hook_that_cancels_its_task_at_its_end_takes_no_other_hook_along(
    serve: Serve, kind: Kind, waits: bool
) -> None:
    Noted = careless(waits)
    served = await serve(Noted, settings=SHORT)
    client = await kind.open(served)
    await client.send("a", "b")
    await Noted.until("b")
    await client.send("c")
    await Noted.until("c")
    await client.leave()
    await Noted.until("close")
    await served.until_empty()
    assert Noted.seen == ["open", "a", "b", "c", "close"]


@two
@waits
async def test_on_gap_is_not_cancelled_by_the_hook_before_nor_cancels_the_next(
    serve: Serve, kind: Kind, waits: bool
) -> None:
    class Subscribed(careless(waits)):  # type: ignore[misc]
        async def on_open(self, info: ConnectionInfo) -> None:
            for channel in ("news", "more"):
                await self.subscribe(channel)
            interrupt(broker)
            await super().on_open(info)

    (broker,) = linked_brokers(1)
    client = await kind.open(await serve(Subscribed, broker=broker))
    await Subscribed.until("gap more")
    await client.send("a")
    await Subscribed.until("a")
    assert Subscribed.seen == ["open", "gap news", "gap more", "a"]
    await client.leave()


@two
@waits
async def test_channels_do_not_cancel_each_other_nor_their_carrier(
    serve: Serve, kind: Kind, waits: bool
) -> None:
    Ann, Bob = careless(waits), careless(waits)
    client = await kind.open(await serve(MultiplexConnection.get(ann=Ann, bob=Bob), settings=SHORT))
    await client.send("sub,ann", "sub,bob", "msg,ann,1", "msg,bob,1", "uns,ann", "msg,bob,2")
    await Bob.until("2")
    assert Ann.seen == ["open", "1", "close"]
    await client.leave()
    await Bob.until("close")
    assert Bob.seen == ["open", "1", "2", "close"]


@two
@waits
async def test_on_close_of_a_channel_is_not_cancelled_by_the_hook_that_closes_it(
    serve: Serve, kind: Kind, waits: bool
) -> None:
    class Leaving(careless(waits)):  # type: ignore[misc]
        async def on_message(self, message: str | bytes) -> None:
            self.close()
            await super().on_message(message)

    client = await kind.open(await serve(MultiplexConnection.get(ann=Leaving)))
    await client.send("sub,ann", "msg,ann,1", "sub,ann", "msg,ann,2")
    await Leaving.until("close", 2)
    assert Leaving.seen == ["open", "1", "close", "open", "2", "close"]
    assert await client.messages(2) == ["uns,ann"] * 2
    await client.leave()


@two
async def test_hooks_of_the_tornado_adapter_do_not_cancel_each_other(
    start: Start, kind: Kind
) -> None:
    class Noted(Old):
        def on_open(self, info: Any) -> Any:
            super().on_open(info)
            cancel_own_task()

        async def on_message(self, message: str) -> None:
            await can_wait()
            super().on_message(message)
            cancel_own_task()

        async def on_close(self) -> None:
            await can_wait()
            super().on_close()

    client = await kind.open(await start(Noted, SHORT))
    await client.send("a", "b")
    await Noted.until("b")
    await client.leave()
    await Noted.until("close")
    assert Noted.seen == ["open", "a", "b", "close"]


@two
async def test_channels_of_the_tornado_adapter_do_not_cancel_each_other(
    start: Start, kind: Kind
) -> None:
    class Ann(Old):
        def on_open(self, info: Any) -> Any:
            super().on_open(info)
            cancel_own_task()

        async def on_message(self, message: str) -> None:
            await can_wait()
            super().on_message(message)
            self.close()
            cancel_own_task()

        async def on_close(self) -> None:
            await can_wait()
            super().on_close()

    Carrier = tornado_multiplex.MultiplexConnection.get(ann=Ann)
    client = await kind.open(await start(Carrier, SHORT))
    await client.send("sub,ann", "msg,ann,1", "sub,ann", "msg,ann,2")
    await Ann.until("close", 2)
    assert Ann.seen == ["open", "1", "close", "open", "2", "close"]
    assert await client.messages(2) == ["uns,ann"] * 2
    await client.leave()


@two
async def test_calls_of_a_handler_do_not_cancel_each_other(run: Run, kind: Kind) -> None:
    seen: list[Any] = []

    async def handler(
        manager: aiolibs.SessionManager, session: aiolibs.Session, msg: aiolibs.SockjsMessage
    ) -> None:
        if msg.type is not aiolibs.MsgType.OPEN:
            await can_wait()
        seen.append(msg.data or msg.type.name)
        cancel_own_task()

    app = web.Application()
    aiolibs.add_endpoint(app, handler, prefix="/sockjs", disconnect_delay=0.1)
    client = await kind.open(await run(app))
    await client.send("a", "b")
    await client.leave()
    async with async_timeout.timeout(10):
        while "CLOSED" not in seen:
            await asyncio.sleep(0.001)
    assert seen == ["OPEN", "a", "b", "CLOSE", "CLOSED"]


@every
async def test_hook_that_cancels_itself_gets_the_cancellation_where_it_waits(
    serve: Serve, kind: Kind
) -> None:
    class Told(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            await self.cancelled("on_open")

        async def on_message(self, message: str | bytes) -> None:
            await self.cancelled(message)

        async def cancelled(self, hook: Any) -> None:
            cancel_own_task()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0)  # it may clean up, and go on
                self.seen.append(f"{hook} was cancelled")

    client = await kind.open(await serve(Told))
    await client.send("a", "b")
    await Told.until("b was cancelled")
    assert Told.seen == ["open", *(f"{hook} was cancelled" for hook in ("on_open", "a", "b"))]
    await client.leave()


@every
async def test_each_hook_has_one_task_that_is_no_other_sessions(serve: Serve, kind: Kind) -> None:
    tasks: dict[SockJSConnection, set[Any]] = {}

    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.setdefault(self, set()).add(task)
            await asyncio.sleep(0)
            assert asyncio.current_task() is task
            await super().on_message(message)

    served = await serve(Noted)
    members = [await kind.open(served) for _ in range(3)]
    for client in members * 2:
        await client.send("a")
    await Noted.until("a", 6)
    first, second, third = tasks.values()
    assert first & second == second & third == third & first == set()
    for client in members:
        await client.leave()


if sys.version_info >= (3, 13):  # before that, uncancel() takes nothing back

    @every
    async def test_cancellation_that_is_taken_back_never_comes(serve: Serve, kind: Kind) -> None:
        """As `asyncio.TaskGroup` does if an eager task fails at once."""

        class Noted(Recorder):
            async def on_message(self, message: str | bytes) -> None:
                task: Any = asyncio.current_task()
                task.cancel()
                assert task.uncancel() == 0
                await asyncio.sleep(0)
                await super().on_message(message)

        client = await kind.open(await serve(Noted))
        await client.send("a", "b")
        await Noted.until("b")
        await client.leave()


started: list[ServerProcess] = []


@pytest.fixture(autouse=True)
async def no_process_is_left() -> AsyncIterator[None]:
    """Kill the processes of a test that has failed."""
    yield
    while started:
        server = started.pop()
        server.send_signal(signal.SIGKILL)
        await server.process.wait()
        await server.errors


async def start_process(loop: str) -> ServerProcess:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    options = ["--uvloop"] if loop == "uvloop" else []
    server = await ServerProcess.start(free_port(), {"shutdown_timeout": 600}, *options)
    started.append(server)
    return server


@pytest.mark.programs
@pytest.mark.parametrize("when", ["now", "later"])
@pytest.mark.parametrize(
    "loop, kind",
    [
        *(("asyncio", kind) for kind in clients.ALL),
        *(("uvloop", kind) for kind in (clients.WebSocket, clients.Xhr)),  # one for each place
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
async def test_hook_that_ends_the_process_has_not_failed(kind: Kind, loop: str, when: str) -> None:
    server = await start_process(loop)
    client = await kind.open(server)
    await client.send(f"exit {when}")
    assert await client.frame() in (b'c[1012,"Service restart"]', b"")
    await client.leave()
    assert await server.ended() == 3, "nothing is said of a hook that failed"


@pytest.mark.programs
@pytest.mark.parametrize("when", ["now", "later"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@two
async def test_messages_behind_a_hook_that_ends_the_process_do_not_end_its_shutdown(
    kind: Kind, loop: str, when: str
) -> None:
    server = await start_process(loop)
    other = await clients.WebSocket.open(server)
    client = await kind.open(server)
    await client.send(*[f"exit {when}"] * 3)
    assert await other.frame() == b'c[1012,"Service restart"]'
    await other.leave()
    await client.leave()
    assert await server.ended() == 3


@pytest.mark.programs
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("turns", [(0, 0, 0), (0, 1, 2), (0, 3, 5)], ids=str)
@two
async def test_hooks_that_end_the_process_together_do_not_end_its_shutdown(
    kind: Kind, loop: str, turns: tuple[int, ...]
) -> None:
    server = await start_process(loop)
    other = await clients.WebSocket.open(server)
    ending = [await kind.open(server) for _ in turns]
    for client, number in zip(ending, turns, strict=True):
        await client.send(f"exit together {number}")
    await other.send("exit_all")
    assert await other.frame() == b'c[1012,"Service restart"]'
    for client in [other, *ending]:
        await client.leave()
    assert await server.ended() == 3
    assert server.process.stdout is not None
    assert await server.process.stdout.read() == b"cleaned up\n"


@pytest.mark.parametrize("kind", clients.POLLS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("how", ["is idle", "waits", "swallows", "waits in on_close"])
async def test_loop_that_ends_without_a_shutdown_waits_for_no_session_between_polls(
    serve: Serve, kind: Kind, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("sockjs_aio.hooks"), "disabled", True)

    class Waiting(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            if how == "waits in on_close":
                self.close()
            elif how != "is idle":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if how != "swallows":
                        raise

        async def on_close(self) -> None:
            await super().on_close()
            if how == "waits in on_close":
                await asyncio.Event().wait()

    served = await serve(Waiting)
    client = await kind.open(served)
    await client.send("a")
    await Waiting.until("close" if how == "waits in on_close" else "a")
    client.abort()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:  # as asyncio.run() does
        task.cancel()
    _, pending = await asyncio.wait(tasks, timeout=3)
    assert not pending
