"""The way in for other threads, and what happens to those that come another way."""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sockjs_aio import SockJSRouter
from tests import clients
from tests.conftest import Echo, Recorder, Serve

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
Kind = type[clients.Client]


@every
async def test_threads_send_in_their_order(serve: Serve, kind: Kind) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    client = await kind.open(served)
    await Noted.until("open")
    (connection,) = Noted.connections
    call = served.router.call_threadsafe

    def talk(name: str) -> None:
        for number in range(50):
            call(connection.send, f"{name} {number}")

    threads = [threading.Thread(target=talk, args=[name]) for name in "abc"]
    for thread in threads:
        thread.start()
    messages = await client.messages(150)
    for name in "abc":
        assert [m for m in messages if m[0] == name] == [f"{name} {n}" for n in range(50)]
    await asyncio.to_thread(lambda: call(connection.close, 3456, "Done").result(5))
    assert await client.frame() == b'c[3456,"Done"]'
    await client.leave()
    for thread in threads:
        thread.join()


async def test_result_comes_back(serve: Serve) -> None:
    served = await serve()
    name = await asyncio.to_thread(
        lambda: served.router.call_threadsafe(threading.current_thread).result(5)
    )
    assert name is threading.current_thread(), "it ran in the event loop's thread"


@pytest.mark.logs("call_threadsafe: .* failed\n(.*\n)*TypeError: a SockJS message is a str")
async def test_exception_comes_back_and_is_logged(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    await served.poll("/0/1")
    await Noted.until("open")
    (connection,) = Noted.connections
    future = served.router.call_threadsafe(connection.send, 5)
    with pytest.raises(TypeError, match="a SockJS message is a str, not int"):
        await asyncio.wrap_future(future)
    assert not connection.is_closed


@pytest.mark.logs("call_threadsafe: .* failed\n(.*\n)*.*CancelledError")
async def test_thread_hears_of_a_cancellation(serve: Serve) -> None:
    served = await serve()
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    call = functools.partial(served.router.call_threadsafe(cancelled.result).result, 5)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.to_thread(call)


async def test_call_that_was_cancelled_is_not_made(serve: Serve) -> None:
    served = await serve()
    calls: list[int] = []
    assert served.router.call_threadsafe(calls.append, 1).cancel()
    await asyncio.wrap_future(served.router.call_threadsafe(calls.append, 2))
    assert calls == [2]


def test_before_the_start_nothing_can_be_called() -> None:
    router = SockJSRouter(Echo, "/echo")
    with pytest.raises(RuntimeError, match="once the application has started"):
        router.call_threadsafe(print)


async def test_after_the_end_nothing_can_be_called() -> None:
    router = SockJSRouter(Echo, "/echo")

    async def bind() -> None:
        router._registry.thread.bind()

    await asyncio.to_thread(asyncio.run, bind())
    with pytest.raises(RuntimeError, match="closed"):
        router.call_threadsafe(print)


async def test_coroutine_functions_are_refused(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    await served.poll("/0/1")
    await Noted.until("open")
    with pytest.raises(TypeError, match="takes a plain function"):
        served.router.call_threadsafe(Noted.connections[0].drain)


WRONG_WAYS: dict[str, Callable[[Any], object]] = {
    "send": lambda connection: connection.send("x"),
    "broadcast": lambda connection: connection.broadcast([connection], "x"),
    "close": lambda connection: connection.close(),
}


@pytest.mark.parametrize("way", WRONG_WAYS)
@every
async def test_wrong_way_raises_in_debug_mode(serve: Serve, kind: Kind, way: str) -> None:
    class Noted(Recorder):
        pass

    asyncio.get_running_loop().set_debug(True)
    client = await kind.open(await serve(Noted))
    await Noted.until("open")
    (connection,) = Noted.connections
    connection.send("before")  # so that a flush is scheduled, which does not ask for the thread
    thread = asyncio.get_running_loop().run_in_executor(None, WRONG_WAYS[way], connection)
    with pytest.raises(RuntimeError, match=r"router\.call_threadsafe\(connection\.send"):
        await thread
    connection.send("after")
    assert await client.messages(2) == ["before", "after"]
    asyncio.get_running_loop().set_debug(False)
    await client.leave()


@pytest.mark.parametrize("way", WRONG_WAYS)
@every
async def test_wrong_way_raises_and_sends_nothing_where_no_flush_is_scheduled(
    serve: Serve, kind: Kind, way: str
) -> None:
    class Noted(Recorder):
        pass

    client = await kind.open(await serve(Noted))
    await Noted.until("open")
    (connection,) = Noted.connections
    connection.send("before")
    assert await client.messages(1) == ["before"]
    client_waits = asyncio.ensure_future(client.messages(1))  # a poll, if it is one
    await asyncio.sleep(0.05)
    with pytest.raises(RuntimeError, match=r"router\.call_threadsafe\(connection\.send"):
        await asyncio.to_thread(WRONG_WAYS[way], connection)
    connection.send("after")
    assert await client_waits == ["after"]
    await client.leave()


@every
async def test_close_always_raises_in_another_thread(serve: Serve, kind: Kind) -> None:
    class Noted(Recorder):
        pass

    client = await kind.open(await serve(Noted))
    await Noted.until("open")
    (connection,) = Noted.connections
    with pytest.raises(RuntimeError, match=r"router\.call_threadsafe\(connection\.send"):
        await asyncio.to_thread(connection.close)
    connection.send("after")
    assert await client.messages(1) == ["after"]
    await client.leave()
