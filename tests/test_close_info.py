"""`close_info` and the log say who ended a session and why, whatever the transport."""

import asyncio
import logging
from typing import Any

import pytest

from sockjs_aio import CloseInfo, ConnectionInfo
from tests import clients
from tests.conftest import SHORT, Recorder, Serve
from tests.websocket_wire import close_frame, handshake, masked

pytestmark = pytest.mark.virtual_time

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
websockets = pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])
Kind = type[clients.Client]


class Noting(Recorder):
    """Does what the client says, and notes its `close_info` in `on_close`."""

    ends: list[CloseInfo]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.ends = []

    async def on_open(self, info: ConnectionInfo) -> Any:
        assert self.close_info is None
        await super().on_open(info)

    async def on_message(self, message: str | bytes) -> None:
        if message == "close":
            self.close(3456, "Done")
        elif message == "raise":
            raise ZeroDivisionError("mistake")
        elif message == "pour":
            while not self.is_closed:
                self.send("x" * 65536)
                await asyncio.sleep(0)

    async def on_close(self) -> None:
        assert self.close_info is not None
        self.ends.append(self.close_info)
        await super().on_close()

    @classmethod
    async def end(cls) -> tuple[int, str, str]:
        """Wait for the only session's end."""
        await cls.until("close")
        (info,) = cls.ends
        return info.code, info.reason, info.initiator


@every
async def test_server_closes(serve: Serve, kind: Kind) -> None:
    class Closing(Noting):
        pass

    client = await kind.open(await serve(Closing))
    await asyncio.sleep(0.05)
    await client.send("close")
    assert await Closing.end() == (3456, "Done", "server")
    (info,) = Closing.ends
    assert info.transport == kind.name
    assert 0.04 < info.seconds < 5
    await client.leave()


@every
async def test_server_refuses(serve: Serve, kind: Kind) -> None:
    class Refusing(Noting):
        async def on_open(self, info: ConnectionInfo) -> Any:
            return False

    client = await kind.open(await serve(Refusing))
    assert await Refusing.end() == (3000, "Go away!", "server")
    await client.leave()


@every
@pytest.mark.logs("Raising.on_message failed")
async def test_hook_raises(serve: Serve, kind: Kind) -> None:
    class Raising(Noting):
        pass

    client = await kind.open(await serve(Raising))
    await client.send("raise")
    assert await Raising.end() == (1011, "Internal error", "error")
    await client.leave()


@every
@pytest.mark.parametrize("cancellation", [True, False])
async def test_network_fails(serve: Serve, kind: Kind, cancellation: bool) -> None:
    class Lost(Noting):
        pass

    served = await serve(Lost, settings=SHORT, handler_cancellation=cancellation)
    client = await kind.open(served)
    await Lost.until("open")
    client.abort()
    end = await Lost.end()
    if kind in clients.POLLS and end[2] == "timeout":
        pytest.fail("the abort of a waiting poll has to be noticed before the session expires")
    assert end == (1006, "Connection lost", "network")


@pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
async def test_nobody_comes_back(serve: Serve, kind: Kind) -> None:
    class Expiring(Noting):
        pass

    served = await serve(Expiring, settings={**SHORT, "response_limit": 1})
    method, url = kind(served, {})._request()  # type: ignore[attr-defined]
    await served.request(method, "/000/gone" + url, b"" if method == "POST" else None)
    assert await Expiring.end() == (1006, "Session expired", "timeout")


@websockets
async def test_ping_is_not_answered(serve: Serve, path: str) -> None:
    class Silent(Noting):
        pass

    wire = await handshake(await serve(Silent, settings=SHORT), path)
    assert await Silent.end() == (1006, "Ping not answered", "timeout")
    wire.close()


@pytest.mark.parametrize("kind", [clients.WebSocket, *clients.STREAMS], ids=lambda kind: kind.name)
async def test_client_takes_nothing(serve: Serve, kind: Kind) -> None:
    class Stalled(Noting):
        async def on_message(self, message: str | bytes) -> None:
            for _ in range(160):
                self.send("x" * 65536)

    # the kernel gives up after three heartbeats: it must not be first where the machine is busy
    settings = {**SHORT, "heartbeat_delay": 0.5}
    limits = {"send_queue_limit": 1 << 26, "response_limit": 1 << 26}
    served = await serve(Stalled, settings={**settings, **limits})
    client = await kind.open(served)
    client.stop_reading()
    await client.send("pour")
    assert await Stalled.end() == (1006, "Client takes nothing", "timeout")
    client.abort()


@every
async def test_client_does_not_keep_up(serve: Serve, kind: Kind) -> None:
    class Pouring(Noting):
        pass

    client = await kind.open(await serve(Pouring, settings={"send_queue_limit": 1 << 20}))
    client.stop_reading()
    await client.send("pour")
    assert await Pouring.end() == (1008, "Slow consumer", "overflow")
    client.abort()


@every
async def test_server_shuts_down(serve: Serve, kind: Kind) -> None:
    class Ending(Noting):
        pass

    served = await serve(Ending)
    client = await kind.open(served)
    await Ending.until("open")
    await served.router.shutdown()
    assert await Ending.end() == (1012, "Service restart", "shutdown")
    await client.leave()


@websockets
@pytest.mark.parametrize(
    ("payload", "end"),
    [
        (b"", (1005, "", "client")),
        (b"\x03\xe8", (1000, "", "client")),
        (b"\x10\xe1see you", (4321, "see you", "client")),
        (b"\x03\xee", (1002, "Invalid close code", "error")),  # 1006 is for nobody to send
        (b"\x13\x88", (1002, "Invalid close code", "error")),  # 5000 neither
        (b"\x03", (1002, "Protocol error", "error")),
        (b"\x03\xe8\xff", (1007, "Invalid UTF-8", "error")),
    ],
)
async def test_client_closes(
    serve: Serve, path: str, payload: bytes, end: tuple[int, str, str]
) -> None:
    class Left(Noting):
        pass

    wire = await handshake(await serve(Left), path)
    await Left.until("open")
    wire.writer.write(masked(8, payload))
    assert await Left.end() == end
    wire.close()


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (masked(2, b"x"), (1003, "SockJS messages are text", "error")),
        (masked(1, b"{"), (1007, "Broken JSON encoding", "error")),
        (masked(1, b'["","",""]'), (1009, "more than 2 messages", "error")),
        (masked(1, b"x" * 101), (1009, "Message too big", "error")),
        (masked(1, b"\xff"), (1007, "Invalid UTF-8", "error")),
        (masked(3, b""), (1002, "Protocol error", "error")),
    ],
)
async def test_client_breaks_the_protocol(
    serve: Serve, data: bytes, end: tuple[int, str, str]
) -> None:
    class Broken(Noting):
        pass

    served = await serve(Broken, settings={"max_message_size": 100, "max_messages": 2})
    wire = await handshake(served, "/0/1/websocket")
    wire.writer.write(data)
    assert await Broken.end() == end
    wire.close()


@every
async def test_first_end_counts(serve: Serve, kind: Kind) -> None:
    class Closing(Noting):
        async def on_close(self) -> None:
            await super().on_close()
            self.close(3999, "Again")

    served = await serve(Closing, settings=SHORT)
    client = await kind.open(served)
    await client.send("close")
    assert await client.frame() == b'c[3456,"Done"]'
    await client.leave()
    await served.until_empty()
    connection = Closing.connections[0]
    assert connection.close_info is Closing.ends[0]
    assert str(connection.close_info).startswith("server, 3456 'Done', after ")


@every
async def test_log_has_one_line_for_a_session(
    serve: Serve, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    class Closing(Noting):
        pass

    caplog.set_level(logging.INFO)
    served = await serve(Closing, settings=SHORT)
    for word in ("close", "abort"):
        client = await kind.open(served)
        if word == "abort":
            await Closing.until("open", 2)
            client.abort()
        else:
            await client.send("close")
            assert await client.frame() == b'c[3456,"Done"]'
            await client.leave()
    await served.until_empty()
    lines = [
        record.getMessage() for record in caplog.records if record.name == "sockjs_aio.session"
    ]
    assert len(lines) == 2
    assert "closed (server, 3456 'Done', after" in lines[0]
    assert "closed (network, 1006 'Connection lost', after" in lines[1]
    assert all(f"({kind.name})" in line for line in lines)
    assert client.path.split("/")[2] not in caplog.text, "session ids are not logged in full"
    first, last = (record for record in caplog.records if record.name == "sockjs_aio.session")
    fields = ("transport", "close_status", "close_code", "close_reason", "close_initiator")
    said = [getattr(first, name) for name in fields]
    assert said == [kind.name, "server", 3456, "Done", "server"]
    assert [getattr(last, name) for name in fields[1:3]] == ["lost", 1006]
    assert 0 <= getattr(last, "session_seconds") < 60  # noqa: B009


async def test_clients_words_cannot_break_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Left(Noting):
        pass

    caplog.set_level(logging.INFO)
    wire = await handshake(await serve(Left), "/websocket")
    wire.writer.write(close_frame(4000, "a\r\nERROR fake\x1b[0m"))
    assert await Left.end() == (4000, "a\r\nERROR fake\x1b[0m", "client")
    (line,) = [
        record.getMessage() for record in caplog.records if record.name == "sockjs_aio.session"
    ]
    assert line.isprintable()
    wire.close()
