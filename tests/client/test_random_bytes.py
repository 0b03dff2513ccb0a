"""Whatever bytes a server sends, the client ends with an error of its own that says something."""

import contextlib
import random

import pytest

from sockjs_aio.client import ClientOptions, ConnectError, ConnectionClosedError, connect
from tests.client.scripted import INFO, response, scripted, stream, websocket_frame

OPTIONS = ClientOptions(open_timeout=0.5, close_timeout=0.05, heartbeat_timeout=0.5)
COUNT = 25

ANSWERS = {
    "xhr": response(b"o\n") + response(b'a["x"]\n') + response(b'c[3000,"Go away!"]\n'),
    "xhr_streaming": stream(b"h" * 2048 + b"\n", b"o\n", b'a["x"]\n', b'c[3000,"Go away!"]\n'),
    "eventsource": stream(b"\r\n", b"data: o\r\n\r\n", b'data: c[3000,"Go away!"]\r\n\r\n'),
    "htmlfile": stream(b"<script>c</script>", b'<script>\np("o");\n</script>\r\n'),
    "jsonp": response(b'/**/_jp.sockjs("o");\r\n'),
    "websocket": websocket_frame(b"o") + websocket_frame(b'a["x"]') + websocket_frame(b"", 0x88),
    "rawwebsocket": websocket_frame(b"x") + websocket_frame(b"\x03\xe8bye", 0x88),
    "info": response(INFO),
}


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change, drop or add some bytes."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed))
        end = place + chance.choice((0, 1, 1, 1, 5, 100))
        changed[place:end] = chance.randbytes(chance.choice((0, 1, 1, 2, 20)))
    return bytes(changed)


@pytest.mark.virtual_time
@pytest.mark.parametrize("name", ANSWERS)
async def test_damaged_answers_end_in_an_error_of_the_client(name: str) -> None:
    chance = random.Random(name)
    path = "websocket" if name == "rawwebsocket" else name
    transport = "xhr" if name == "info" else name
    for _ in range(COUNT):
        answer = damaged(ANSWERS[name], chance)
        async with scripted(**{path: answer}) as server:
            try:
                async with connect(server.url, transports=transport, options=OPTIONS) as socket:
                    with contextlib.suppress(StopAsyncIteration):
                        while True:
                            await socket.__anext__()
                    assert socket.close_code is not None
            except (ConnectError, ConnectionClosedError) as error:
                assert len(str(error)) > 4, answer
