"""What workers hand on to each other: the one it comes in at, and the one it belongs to."""

import asyncio
import socket

import pytest

from tests import clients
from tests.conftest import Recorder
from tests.stalls.inputs import FORMS, MIB, PAYLOADS, TEXTS
from tests.stalls.peers import TIMEOUT, packed, post
from tests.stalls.rooms import SESSION, Silent
from tests.stalls.throwing import Thrower
from tests.workers.conftest import Member, RunTeam, team

__all__ = ["team"]  # the fixture

PATH = SESSION.removeprefix("/echo")


async def opened(team: RunTeam) -> Member:
    """Open the session; return the worker that it does not belong to."""
    workers = await team(2, Silent, settings={"disconnect_delay": 60})
    entry = workers.elsewhere(PATH)
    assert await entry.poll(PATH) == b"o"
    return entry


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_costly_bodies_are_handed_on_without_holding_up_the_loop(
    throw: Thrower, team: RunTeam, payload: bytes
) -> None:
    entry = await opened(team)
    body, headers = packed(payload)

    async def attempt() -> None:
        status = await asyncio.to_thread(post, entry.port, SESSION + "/xhr_send", body, headers)
        assert status in (204, 413, 500)

    await throw(attempt)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_costly_forms_are_handed_on_without_holding_up_the_loop(
    throw: Thrower, team: RunTeam, form: bytes
) -> None:
    entry = await opened(team)
    body, headers = packed(form)
    headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}

    async def attempt() -> None:
        status = await asyncio.to_thread(post, entry.port, SESSION + "/jsonp_send", body, headers)
        assert status in (200, 500)

    await throw(attempt)


SEND = b"POST /echo/000/session/xhr_send HTTP/1.1\r\nHost: a\r\n"
PIPELINES = {
    "chunks": (
        SEND + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 170_000 + b"0\r\n\r\n"
    ),
    "sends": (SEND + b'Content-Length: 4\r\n\r\n[""]') * 1_000,
}


@pytest.mark.parametrize("data", PIPELINES.values(), ids=PIPELINES)
async def test_requests_in_small_pieces_are_handed_on_without_holding_up_the_loop(
    throw: Thrower, team: RunTeam, data: bytes
) -> None:
    entry = await opened(team)

    def exchange() -> None:
        with socket.create_connection(("127.0.0.1", entry.port), timeout=TIMEOUT) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    await throw(lambda: asyncio.to_thread(exchange))


@pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_costly_texts_are_handed_back_without_holding_up_the_loop(
    throw: Thrower, team: RunTeam, kind: type[clients.Client], text: str
) -> None:
    class Noted(Recorder):
        pass

    workers = await team(2, Noted, settings={"send_queue_limit": 64 * MIB})
    client = kind(workers[0], {})
    client.served = workers.elsewhere(client.path)
    await client.connect()
    assert await client.frame() == b"o"
    await Noted.until("open")
    client.stop_reading()  # what it does in this loop is not the server's

    async def attempt() -> None:
        Noted.connections[0].send(text)
        for _ in range(100):
            await asyncio.sleep(0.001)

    await throw(attempt)
    client.abort()
