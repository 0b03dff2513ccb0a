"""`core.tcp` asks transports that may be closed: none of its questions fails, on any loop."""

import asyncio
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sockjs_aio.core import tcp
from tests.certificate import contexts, make_certificate
from tests.require import require

TRANSPORT_USES: list[Callable[[Any], object]] = [
    lambda transport: tcp.extra_info(transport, "socket"),
    tcp.protocol_of,
    tcp.pause_reading,
    tcp.resume_reading,
    tcp.buffered_bytes,
    tcp.is_tls,
    lambda transport: tcp.limit_buffer(transport, 10),
    lambda transport: tcp.limit_buffer(transport, None),
    tcp.unsent_bytes,
    tcp.has_unread_data,
    tcp.seconds_since_data,
    tcp.is_left,
    tcp.is_left_unseen,
    lambda transport: tcp.give_up_after(transport, 0),
    lambda transport: tcp.read_at_most(transport, 1),
]


def make_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "asyncio":
        return asyncio.new_event_loop()
    require(importlib.util.find_spec("uvloop"), "uvloop")
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    return loop


@pytest.mark.programs
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_closed_transport_can_be_asked(name: str, is_tls: bool, tmp_path: Path) -> None:
    server_tls, client_tls = contexts(make_certificate(tmp_path)) if is_tls else (None, None)
    loop = make_loop(name)

    async def close_and_ask() -> None:
        made: asyncio.Future[asyncio.StreamWriter] = loop.create_future()
        server = await asyncio.start_server(
            lambda _reader, writer: made.set_result(writer), "127.0.0.1", 0, ssl=server_tls
        )
        port = server.sockets[0].getsockname()[1]
        host = "127.0.0.1" if is_tls else None
        _, client = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_tls, server_hostname=host
        )
        transport = (await made).transport
        try:
            for _ in range(2):  # in this turn, and once its protocol was told
                transport.abort()
                transport.close()
                for use in TRANSPORT_USES:
                    use(transport)
                await asyncio.sleep(0.05)
        finally:
            client.transport.abort()
            server.close()
            await asyncio.sleep(0.05)

    try:
        loop.run_until_complete(close_and_ask())
    finally:
        loop.close()
