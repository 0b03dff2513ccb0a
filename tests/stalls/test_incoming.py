"""What clients send: bodies, forms, WebSocket messages."""

import asyncio
import socket

import pytest

from tests.conftest import Serve
from tests.stalls.inputs import FORMS, PAYLOADS
from tests.stalls.peers import TIMEOUT, Peer, packed, post
from tests.stalls.rooms import SESSION, Silent, opened
from tests.stalls.throwing import Thrower

# What clients send.


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_costly_bodies_of_xhr_send_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, payload: bytes
) -> None:
    served = await serve(Silent, settings={"disconnect_delay": 60})
    await opened(served)
    body, headers = packed(payload)

    async def attempt() -> None:
        status = await asyncio.to_thread(post, served.port, SESSION + "/xhr_send", body, headers)
        assert status in (204, 413, 500)

    await throw(attempt)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_costly_forms_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, form: bytes
) -> None:
    served = await serve(Silent, settings={"disconnect_delay": 60})
    await opened(served)
    body, headers = packed(form)
    headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}

    async def attempt() -> None:
        status = await asyncio.to_thread(post, served.port, SESSION + "/jsonp_send", body, headers)
        assert status in (200, 500)

    await throw(attempt)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("path", ["/echo/0/1/websocket", "/echo/websocket"])
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_costly_websocket_messages_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, payload: bytes, path: str
) -> None:
    served = await serve(Silent)

    def exchange() -> None:
        peer = Peer(served.port, path)
        peer.send(1, payload)
        peer.send(8, b"\x03\xe8")
        peer.until(b"\x03\xe8")
        peer.close()

    await throw(lambda: asyncio.to_thread(exchange))


PIPELINES = {
    "requests": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5_000,
    "chunks": (
        b"POST /echo/000/session/xhr_send HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\n \r\n" * 170_000
        + b"0\r\n\r\n"
    ),
    "gets": b"GET /echo/info HTTP/1.1\r\nHost: a\r\n\r\n" * 5_000,
}


@pytest.mark.parametrize("data", PIPELINES.values(), ids=PIPELINES)
async def test_requests_in_small_pieces_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, data: bytes
) -> None:
    served = await serve(Silent, settings={"disconnect_delay": 60})
    await opened(served)

    def exchange() -> None:
        with socket.create_connection(("127.0.0.1", served.port), timeout=TIMEOUT) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    await throw(lambda: asyncio.to_thread(exchange))
