"""A WebSocket's client leaves while its messages wait or a hook runs: all is handled, in order."""

import asyncio
import json

import async_timeout
import pytest

from tests.conftest import SHORT, Recorder, Serve, Served
from tests.websocket_wire import frame, handshake, masked
from tests.wire import Wire

SOCKJS, RAW = "/0/1/websocket", "/websocket"
both = pytest.mark.parametrize("path", [SOCKJS, RAW], ids=["websocket", "rawwebsocket"])
either = pytest.mark.parametrize("cancellation", [True, False], ids=["cancelled", "not-cancelled"])

FAR = {"heartbeat_delay": 60, "disconnect_delay": 60}


async def opened(served: Served, path: str) -> Wire:
    wire = await handshake(served, path)
    if path == SOCKJS:
        assert await frame(wire) == (1, b"o")
    return wire


def write(wire: Wire, path: str, messages: list[str]) -> None:
    """Send `messages`: 100 in a frame where the protocol has that."""
    if path == RAW:
        wire.writer.write(b"".join(masked(1, message.encode()) for message in messages))
        return
    for start in range(0, len(messages), 100):
        batch = messages[start : start + 100]
        wire.writer.write(masked(1, json.dumps(batch).encode()))


def end_of(kind: type[Recorder]) -> tuple[int, str, str]:
    info = kind.connections[0].close_info
    assert info is not None
    return info.code, info.reason, info.initiator


LOST = (1006, "Connection lost", "network")


@both
@either
async def test_messages_before_the_end_are_all_handled(
    serve: Serve, path: str, cancellation: bool
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings=FAR, handler_cancellation=cancellation)
    wire = await opened(served, path)
    messages = [str(number) for number in range(2000)]
    write(wire, path, messages)
    wire.end_sending()
    await Noted.until("close")
    assert Noted.seen == ["open", *messages, "close"]
    assert end_of(Noted) == LOST
    wire.abort()


@both
@either
async def test_messages_behind_the_hook_that_runs_are_handled(
    serve: Serve, path: str, cancellation: bool
) -> None:
    class Slow(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            if message == "0":
                self.seen.append("begins")
                while not self.is_closed:
                    await asyncio.sleep(0.01)
            await super().on_message(message)

    delay = 60 if cancellation else 0.1
    settings = {**FAR, "heartbeat_delay": delay, "session_check_interval": 0.02}
    served = await serve(Slow, settings=settings, handler_cancellation=cancellation)
    wire = await opened(served, path)
    messages = [str(number) for number in range(300)]
    write(wire, path, messages)
    await Slow.until("begins")
    wire.end_sending()
    await Slow.until("close")
    assert Slow.seen == ["open", "begins", *messages, "close"]
    assert end_of(Slow) == LOST
    wire.abort()


@both
@either
async def test_messages_of_a_client_that_took_nothing_are_handled(
    serve: Serve, path: str, cancellation: bool
) -> None:
    class Flooding(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            if message == "0":
                self.send("x" * 10_000_000)  # more than sockets hold
                while not self.is_closed:
                    await asyncio.sleep(0.005)

    settings = {**FAR, "send_queue_limit": 100_000_000}
    served = await serve(Flooding, settings=settings, handler_cancellation=cancellation)
    wire = await opened(served, path)
    wire.stop_reading()
    write(wire, path, ["0"])
    write(wire, path, ["1", "2"])
    await Flooding.until("0")
    await asyncio.sleep(0.05)  # what has come is read into the server
    wire.abort()
    await Flooding.until("close")
    assert Flooding.seen == ["open", "0", "1", "2", "close"]
    assert end_of(Flooding) == LOST


@both
@either
async def test_on_close_comes_last_when_writing_fails_between_two_messages(
    serve: Serve, path: str, cancellation: bool
) -> None:
    class Flooding(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            if message == "0":
                self.send("x" * 10_000_000)  # more than sockets hold: somebody waits to write
                await asyncio.sleep(0.1)  # what has come is read into the server
                wire.abort()

    settings = {**FAR, "send_queue_limit": 100_000_000}
    served = await serve(Flooding, settings=settings, handler_cancellation=cancellation)
    wire = await opened(served, path)
    wire.stop_reading()
    messages = [str(number) for number in range(5000)]
    write(wire, path, messages)
    await Flooding.until("close")
    assert Flooding.seen == ["open", *messages, "close"]
    assert end_of(Flooding) == LOST


@both
@either
@pytest.mark.parametrize("hook", ["on_open", "on_message"])
async def test_hook_that_runs_sees_that_its_client_was_reset(
    serve: Serve, path: str, cancellation: bool, hook: str
) -> None:
    class Ticking(Recorder):
        async def tick(self, *_: object) -> None:
            self.connections.append(self)
            self.seen.append("begins")
            while not self.is_closed:
                self.send("tick")
                await asyncio.sleep(0.01)
            self.seen.append("ended")

    setattr(Ticking, hook, Ticking.tick)
    # without cancellation it is the next time for a ping that shows it
    delay = 60 if cancellation else 0.1
    settings = {**FAR, "heartbeat_delay": delay, "session_check_interval": 0.02}
    served = await serve(Ticking, settings=settings, handler_cancellation=cancellation)
    wire = await handshake(served, path)
    if hook == "on_message":
        write(wire, path, ["x"])
    await Ticking.until("begins")
    wire.abort()
    await Ticking.until("close")
    assert Ticking.seen[-3:] == ["begins", "ended", "close"]
    assert end_of(Ticking) == LOST
    await served.until_empty()


@pytest.mark.slow
@both
@either
async def test_hook_that_runs_sees_that_its_client_has_left_more_than_is_read(
    serve: Serve, path: str, cancellation: bool
) -> None:
    class Waiting(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            while not self.is_closed:
                await asyncio.sleep(0.01)
            await super().on_message(message)

    settings = {**FAR, "heartbeat_delay": 0.3, "session_check_interval": 0.02}
    served = await serve(Waiting, settings=settings, handler_cancellation=cancellation)
    wire = await opened(served, path)
    messages = [str(number).zfill(1000) for number in range(1000)]  # more than is read ahead
    write(wire, path, messages)
    while wire.unsent:
        await asyncio.sleep(0.001)
    wire.abort()  # there is nothing that it has not read: it is not reset
    await Waiting.until("close")
    handled = Waiting.seen[1:-1]  # what the kernel still had may be lost
    assert handled and handled == messages[: len(handled)]
    assert end_of(Waiting) == LOST


class Limited(Recorder):
    """Has a time-out of its own in `on_close`."""

    gate: asyncio.Event

    async def on_close(self) -> None:
        self.seen.append("closing")
        await self.gate.wait()
        try:
            async with async_timeout.timeout(0.02):
                await asyncio.sleep(3)
        except asyncio.TimeoutError:
            self.seen.append("timed out")
        await super().on_close()


@both
@either
async def test_time_out_in_on_close_of_a_lost_client_works(
    serve: Serve, path: str, cancellation: bool
) -> None:
    class Noted(Limited):
        gate = asyncio.Event()

    Noted.gate.set()
    served = await serve(Noted, settings=FAR, handler_cancellation=cancellation)
    wire = await opened(served, path)
    await Noted.until("open")
    wire.abort()
    await Noted.until("close")
    assert Noted.seen == ["open", "closing", "timed out", "close"]


@both
@either
@pytest.mark.parametrize("sends", [True, False], ids=["sends-more", "is-silent"])
async def test_time_out_in_on_close_works_when_the_client_leaves_meanwhile(
    serve: Serve, path: str, cancellation: bool, sends: bool
) -> None:
    class Noted(Limited):
        gate = asyncio.Event()

    served = await serve(Noted, settings=FAR, handler_cancellation=cancellation)
    wire = await opened(served, path)
    await Noted.until("open")
    Noted.connections[0].close()
    await Noted.until("closing")
    if sends:  # then the reader waits for on_close, and not for a message
        write(wire, path, ["late"])
        await asyncio.sleep(0.05)
    wire.abort()
    receiver = Noted.connections[0].session._writer
    async with async_timeout.timeout(5):
        while receiver is not None and receiver.is_alive:
            await asyncio.sleep(0.001)
    Noted.gate.set()
    await Noted.until("close")
    assert Noted.seen == ["open", "closing", "timed out", "close"]


@both
async def test_no_message_is_handled_once_somebody_has_closed(
    serve: Serve, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sockjs_aio.server.websocket_connection.TURN", 0)

    class Closing(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            if message == "0":  # somebody else closes it, when the loop gets its turn
                asyncio.get_running_loop().call_soon(self.close)
            self.seen.append("closed " + str(message) if self.is_closed else "message")
            await super().on_message(message)

        async def on_close(self) -> None:
            self.seen.append("closing")
            await asyncio.sleep(0.05)
            await super().on_close()

    wire = await opened(await serve(Closing), path)
    write(wire, path, [str(number) for number in range(700)])
    await Closing.until("close")
    assert Closing.seen[-2:] == ["closing", "close"]
    assert not [seen for seen in Closing.seen if seen.startswith("closed")]
    assert "2" not in Closing.seen
    wire.abort()


@both
@either
async def test_shutdown_cancels_the_hook_of_a_lost_client_and_drops_the_rest(
    serve: Serve, path: str, cancellation: bool
) -> None:
    class Stuck(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            await asyncio.sleep(60)

    settings = {**SHORT, "shutdown_timeout": 0.1}
    served = await serve(Stuck, settings=settings, handler_cancellation=cancellation)
    wire = await opened(served, path)
    write(wire, path, ["0", "1", "2"])
    await Stuck.until("0")
    wire.end_sending()
    async with async_timeout.timeout(5):
        while not Stuck.connections[0].is_closed:
            await asyncio.sleep(0.01)
    await served.router.shutdown()
    await Stuck.until("close")
    assert Stuck.seen == ["open", "0", "close"]
    assert end_of(Stuck) == LOST
    wire.abort()
