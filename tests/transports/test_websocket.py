"""Sections "WebSocket protocol" and "Raw WebSocket"; RFC 6455."""

import asyncio
import itertools
import struct
from typing import Any

import pytest

from sockjs_aio import ConnectionInfo
from tests import clients
from tests.cases import case
from tests.conftest import Echo, Recorder, Serve
from tests.websocket_wire import HANDSHAKE, close_code, close_frame, frame, handshake, masked

both = pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])

SHORT = {"heartbeat_delay": 0.1, "disconnect_delay": 0.1, "session_check_interval": 0.02}


@pytest.mark.usefixtures("endless_turns")
async def test_frames_to_the_byte(serve: Serve) -> None:
    wire = await handshake(await serve(Echo))
    assert await frame(wire) == (1, b"o")
    wire.writer.write(
        masked(1, b'["a","b"]') + masked(1, b'"c"') + masked(1, b"") + masked(1, b"[]")
    )
    assert await frame(wire) == (1, b'a["a","b","c"]')
    wire.writer.write(masked(9, b"ping"))
    assert await frame(wire) == (10, b"ping")
    wire.writer.write(masked(8, struct.pack("!H", 3333) + b"bye"))
    assert await frame(wire) == (8, struct.pack("!H", 3333) + b"bye")
    assert await wire.is_closed()


async def test_server_close_to_the_byte(serve: Serve) -> None:
    class Closing(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.send("a")
            self.close(3001, "x")

    wire = await handshake(await serve(Closing))
    frames = [await frame(wire) for _ in range(4)]
    assert frames == [(1, b"o"), (1, b'a["a"]'), (1, b'c[3001,"x"]'), (8, b"\x03\xe8")]
    assert await wire.is_closed()
    await Closing.until("close")


async def test_hook_that_cancels_its_own_task_does_not_cancel_the_next(serve: Serve) -> None:
    class Cancelling(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            task = asyncio.current_task()
            assert task is not None
            if message == "cancel":
                task.cancel()
            elif message != "quick":
                await asyncio.sleep(0)
            self.send(message)

    wire = await handshake(await serve(Cancelling))
    wire.writer.write(masked(1, b'["a"]'))
    assert [await frame(wire) for _ in range(2)] == [(1, b"o"), (1, b'a["a"]')]
    wire.writer.write(masked(1, b'["quick","cancel","a"]') + masked(1, b'["b"]'))
    answer = b""
    while b'"b"' not in answer:
        answer += (await frame(wire))[1]
    assert answer.replace(b"]a[", b",") == b'a["quick","cancel","a","b"]'


@pytest.mark.logs("ZeroDivisionError: mistake")
@pytest.mark.usefixtures("endless_turns")
async def test_messages_behind_one_whose_hook_fails_are_dropped(serve: Serve) -> None:
    class Failing(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)
            if message == "b":
                raise ZeroDivisionError("mistake")

    wire = await handshake(await serve(Failing))
    wire.writer.write(masked(1, b'["a","b","c"]') + masked(1, b'["d"]'))
    frames = [await frame(wire) for _ in range(3)]
    assert frames == [(1, b"o"), (1, b'a["a","b"]'), (1, b'c[1011,"Internal error"]')]
    await Failing.until("close")


async def test_raw_websocket_has_no_frames(serve: Serve) -> None:
    class Mixed(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)
            self.send(message)
            if message == b"\xff":
                self.close(3001, "x" * 200)

    wire = await handshake(await serve(Mixed), "/websocket")
    wire.writer.write(masked(1, b'["a') + masked(1, b"") + masked(2, b"\xff"))
    frames = [await frame(wire) for _ in range(7)]
    assert frames[:6] == [(1, b'["a')] * 2 + [(1, b"")] * 2 + [(2, b"\xff")] * 2
    assert frames[6] == (8, struct.pack("!H", 3001) + b"x" * 123)
    assert await wire.is_closed()


async def test_raw_websocket_close_code_that_may_not_go_out(serve: Serve) -> None:
    class Closing(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.close(2010, "x")

    wire = await handshake(await serve(Closing), "/websocket")
    assert await frame(wire) == (8, struct.pack("!H", 1000) + b"x")


async def test_raw_websocket_has_no_heartbeat_frame_but_pings(serve: Serve) -> None:
    wire = await handshake(await serve(Echo, settings=SHORT), "/websocket")
    assert await frame(wire) == (9, b"")


@pytest.mark.parametrize("payload", [b'["a', b"{}", b"a", b"[1]", b"[" * 50_000])
async def test_broken_json_ends_the_connection_without_a_word(serve: Serve, payload: bytes) -> None:
    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            self.send(message)

    wire = await handshake(await serve(Noted))
    assert await frame(wire) == (1, b"o")
    wire.writer.write(masked(1, payload))
    assert await wire.is_closed()
    await Noted.until("close")
    assert Noted.seen == ["open", "close"]


@both
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(1, b"\xff"), 1007),
        (masked(3, b""), 1002),
        (masked(1, b"", rsv=0x40), 1002),
        (masked(9, b"x" * 126), 1002),
        (masked(9, b"", fin=0), 1002),
        (masked(0, b"x"), 1002),
        (masked(8, b"x"), 1002),
        (masked(8, struct.pack("!H", 1005)), 1002),
        (masked(8, struct.pack("!H", 1006)), 1002),
        (masked(8, struct.pack("!H", 2999)), 1002),
        (masked(8, struct.pack("!H", 65535)), 1002),
        (masked(8, struct.pack("!H", 1000) + b"\xff"), 1007),
        (b"\x81\xff" + struct.pack("!Q", 1 << 62) + b"1234", 1009),
        (masked(8, b""), 1000),
        (masked(8, struct.pack("!H", 1001)), 1001),
        (masked(8, struct.pack("!H", 4999)), 4999),
    ],
)
async def test_close_codes_for_what_a_client_sends(
    serve: Serve, path: str, data: bytes, code: int
) -> None:
    class Noted(Recorder):
        pass

    # over TLS the server waits so long for its client to close the connection
    delays = {"disconnect_delay": 0.1, "session_check_interval": 0.02}
    wire = await handshake(await serve(Noted, settings=delays), path)
    wire.writer.write(data)
    assert await close_code(wire) == code
    assert await wire.is_closed()
    await Noted.until("close")
    assert Noted.seen == ["open", "close"]


@both
@pytest.mark.parametrize("compress", [False, True])
async def test_close_of_the_client_is_answered_with_its_code_and_reason(
    serve: Serve, path: str, compress: bool
) -> None:
    class Noted(Recorder):
        async def on_close(self) -> None:
            self.seen.append((self.close_info.code, self.close_info.reason))  # type: ignore[union-attr]

    offer = {"Sec-WebSocket-Extensions": "permessage-deflate"} if compress else {}
    served = await serve(Noted, settings={"websocket_compression": compress})
    reasons = ("", "bye", "\u00e9" * 61, "x" * 123)
    for code, reason in itertools.product((1000, 3001, 4999), reasons):
        with case((code, reason)):
            await served.until_empty()
            wire = await handshake(served, path, **offer)
            wire.writer.write(close_frame(code, reason))
            opcode, payload = await frame(wire)
            while opcode != 8:
                opcode, payload = await frame(wire)
            assert payload == struct.pack("!H", code) + reason.encode()
            assert await wire.is_closed()
            wire.close()
            await Noted.until((code, reason))


async def test_binary_messages_are_1003_on_the_sockjs_endpoint(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    wire = await handshake(await serve(Noted))
    wire.writer.write(masked(2, b'["a"]'))
    assert await close_code(wire) == 1003
    await Noted.until("close")
    assert Noted.seen == ["open", "close"]


@both
async def test_size_limit_is_1009(serve: Serve, path: str) -> None:
    served = await serve(Echo, settings={"max_message_size": 1000})
    fitting = b'"' + b"x" * 998 + b'"'
    wire = await handshake(served, path)
    wire.writer.write(masked(1, fitting))
    _, payload = await frame(wire)
    if payload == b"o":
        _, payload = await frame(wire)
    assert b"x" * 998 in payload
    wire.writer.write(masked(1, fitting[:500], fin=0) + masked(0, fitting[500:] + b" "))
    assert await close_code(wire) == 1009


async def test_number_limit_is_1009(serve: Serve) -> None:
    wire = await handshake(await serve(Echo, settings={"max_messages": 2}))
    wire.writer.write(masked(1, b'["","",""]'))
    assert await close_code(wire) == 1009


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, 'Can "Upgrade" only to "WebSocket".'),
        ({**HANDSHAKE, "Upgrade": "<b>"}, 'Can "Upgrade" only to "WebSocket".'),
        ({**HANDSHAKE, "Connection": "close"}, '"Connection" must be "Upgrade".'),
        ({**HANDSHAKE, "Sec-WebSocket-Key": "<b>"}, "The WebSocket handshake is not valid."),
        ({**HANDSHAKE, "Sec-WebSocket-Version": "<b>"}, "The WebSocket handshake is not valid."),
    ],
)
@both
async def test_bad_handshakes_are_400(
    serve: Serve, path: str, headers: dict[str, str], text: str
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    wire = await served.wire()
    reply = await wire.request("GET", "/echo" + path, headers=headers)
    assert (reply.status, reply.body.decode()) == (400, text + "\n")
    assert await wire.is_closed()
    assert served.router.session_count == 0
    assert Noted.seen == []


async def test_session_ids_may_repeat(serve: Serve) -> None:
    served = await serve(Echo)
    wires = [await handshake(served) for _ in range(2)]
    for number, wire in enumerate(wires):
        assert await frame(wire) == (1, b"o")
        wire.writer.write(masked(1, b'"%d"' % number))
    assert [await frame(wire) for wire in wires] == [(1, b'a["0"]'), (1, b'a["1"]')]


async def test_client_that_never_answers_the_close_is_cut_off(serve: Serve) -> None:
    class Closing(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.close()

    served = await serve(Closing, settings=SHORT)
    wire = await handshake(served)
    wire.writer.write(masked(1, b'"x"'))
    assert await close_code(wire) == 1000
    await Closing.until("close")
    for _ in range(500):
        if not served.router.session_count:
            break
        await asyncio.sleep(0.01)
    assert served.router.session_count == 0


@both
@pytest.mark.parametrize("compress", [0, 15])
async def test_compression_if_it_was_agreed_on(serve: Serve, path: str, compress: int) -> None:
    class Relay(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for _ in range(3):
                self.send(message)
            if message == "end":
                self.close(3001, "x")

    served = await serve(Relay, settings={"websocket_compression": True})
    async with served.websocket(path, compress=compress) as socket:
        assert socket.compress == compress
        for message in ["a", "äöü" * 100_000, "end"]:
            await socket.send_str(message if path == "/websocket" else f'"{message}"')
        received = [message.data async for message in socket]
        assert socket.close_code == (3001 if path == "/websocket" else 1000)
    text = "".join(received)
    assert text.count("äöü") == 300_000 and text.count("end") == 3


async def test_compression_is_off_by_default(serve: Serve) -> None:
    async with (await serve(Echo)).websocket(compress=15) as socket:
        assert socket.compress == 0


async def test_pings_of_a_client_that_does_not_read_cost_no_memory(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    wire = await handshake(served)
    wire.stop_reading()
    ping = masked(9, b"x" * 125) * 100
    for _ in range(1000):
        wire.writer.write(ping)
        if wire.writer.transport.get_write_buffer_size() > 1 << 20:
            break  # the server has stopped to read, which is as good
        await asyncio.sleep(0)
    await Noted.until("open")
    await asyncio.sleep(0.05)
    buffered = Noted.connections[0].session._writer.buffered  # type: ignore[union-attr]
    assert buffered < 200_000


async def test_messages_of_one_turn_leave_as_one_frame(serve: Serve) -> None:
    class Bursting(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for number in range(100):
                self.send(str(number))

    wire = await handshake(await serve(Bursting))
    assert await frame(wire) == (1, b"o")
    wire.writer.write(masked(1, b'"go"'))
    _, payload = await frame(wire)
    assert payload.count(b",") == 99


async def test_many_sessions_of_mixed_speed(serve: Serve) -> None:
    class Relay(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.broadcast(self.connections, message)

    served = await serve(Relay)
    members: list[Any] = [await clients.WebSocket.open(served) for _ in range(30)]
    await asyncio.gather(*(member.send(str(n)) for n, member in enumerate(members)))
    received = await asyncio.gather(*(member.messages(30) for member in members))
    assert {tuple(sorted(messages, key=int)) for messages in received} == {
        tuple(map(str, range(30)))
    }
    await asyncio.gather(*(member.leave() for member in members))
