"""Connections that are handed over to the worker that has the session; and those that are not."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import async_timeout
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.cluster.workers import handover_links
from sockjs_aio.server import aiohttp_protocol
from tests.clients import ALL, HTTP, Client
from tests.conftest import PATIENCE
from tests.wire import Wire
from tests.workers.conftest import Member, RunTeam, Team

pytestmark = pytest.mark.skipif(
    not handover_links.is_possible(), reason="this system cannot pass sockets in messages"
)

each = pytest.mark.parametrize("transport", ALL, ids=lambda client: client.name)
each_http = pytest.mark.parametrize("transport", HTTP, ids=lambda client: client.name)


def path_at(workers: Team, number: int, name: str = "s") -> str:
    """Return the path of a session that belongs to a worker."""
    while workers.owner_number(f"/0/{name}") != number:
        name += "x"
    return f"/0/{name}"


def request(path: str, end: str, body: bytes = b"", more: str = "") -> bytes:
    head = (
        f"POST /echo{path}/{end} HTTP/1.1\r\nHost: a\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def until(is_so: Callable[[], object]) -> None:
    async with async_timeout.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.002)


def counts(workers: Team) -> tuple[int, int]:
    """Return how many connections were handed over, and how many requests were relayed."""
    return (
        sum(worker.handovers.count for worker in workers),
        sum(worker.relay.exchanges.count for worker in workers),
    )


async def until_counted(workers: Team, expected: tuple[int, int]) -> None:
    """Wait until the worker from which a connection went knows that it has gone."""
    await until(lambda: counts(workers) == expected)


def connections(worker: Member) -> list[aiohttp_protocol.Handler]:
    assert worker.runner.server is not None
    return worker.runner.server.connections


@each
async def test_messages_pass_whichever_worker_a_connection_came_in_at(
    team: RunTeam, transport: type[Client]
) -> None:
    workers = await team(3, handing_over=True)
    for worker in workers:
        client: Any = await transport.open(worker)
        sent = []
        for number in range(12):
            if transport.is_http:
                client.served = workers[number % 3]
            sent.append(f"{number} \u00fc & \u2028")
            await client.send(sent[-1])
        assert await client.messages(12) == sent
        await client.leave()
    handed_over, relayed = counts(workers)
    assert relayed == 0
    assert handed_over > 0 if transport.is_http else handed_over == 0


async def test_a_connection_stays_with_the_owner(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    path = path_at(workers, 0)
    wire = await workers[1].wire()
    assert (await wire.request("POST", f"/echo{path}/xhr", b"")).body == b"o\n"
    for _ in range(5):
        assert (await wire.request("POST", f"/echo{path}/xhr_send", b'["a"]')).status == 204
        assert (await wire.request("POST", f"/echo{path}/xhr", b"")).body == b'a["a"]\n'
    await until_counted(workers, (1, 0))
    assert len(connections(workers[0])) == 1
    await until(lambda: not connections(workers[1]))


async def test_a_connection_changes_its_owner_with_the_session(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    paths = [path_at(workers, number) for number in range(2)]
    wire = await workers[0].wire()
    assert (await wire.request("GET", "/echo/info")).status == 200
    changes = 0
    for number in range(10):
        path = paths[number % 2]
        expected = b"o\n" if number < 2 else b'a["a"]\n'
        for worker in workers:
            await until_waiting(worker)
        if number >= 2:
            assert (await wire.request("POST", f"/echo{path}/xhr_send", b'["a"]')).status == 204
        assert (await wire.request("POST", f"/echo{path}/xhr", b"")).body == expected
        changes += number > 0
        await until_counted(workers, (changes, 0))


async def test_the_owner_sees_the_request_once_and_as_it_came(team: RunTeam) -> None:
    seen: list[Any] = []

    def note(place: str, request: web.Request) -> None:
        transport = request.transport
        assert transport is not None
        names = [transport.get_extra_info(name) for name in ("peername", "sockname")]
        seen.append((place, request.remote, request.host, request.scheme, *names))

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        note("middleware", request)
        return await handler(request)

    async def authorize(request: web.Request) -> bool:
        note("authorize", request)
        return True

    async def signal(request: web.Request, _response: web.StreamResponse) -> None:
        note("signal", request)

    options = {"middlewares": [middleware], "on_response_prepare": [signal]}
    workers = await team(2, authorize=authorize, handing_over=True, **options)
    for number in range(2):  # at the owner, and elsewhere
        seen.clear()
        wire = await workers[0].wire()
        path = path_at(workers, number)
        assert (await wire.request("POST", f"/echo{path}/xhr", b"")).body == b"o\n"
        names = [wire.writer.get_extra_info(name) for name in ("sockname", "peername")]
        expected = ("127.0.0.1", "localhost", "http", *names)
        places = ("middleware", "authorize", "signal")
        assert seen == [(place, *expected) for place in places]
        assert workers[number].router.session_count == 1
    await until_counted(workers, (1, 0))


async def test_limits_of_an_address_hold(team: RunTeam) -> None:
    settings = {"max_sessions_per_ip": 2}
    workers = await team(2, settings=settings, handing_over=True)
    replies = [
        await workers[1].request("POST", path_at(workers, 0, f"s{number}") + "/xhr", b"")
        for number in range(3)
    ]
    assert [reply.status for reply in replies] == [200, 200, 429]
    await until_counted(workers, (3, 0))


async def test_connections_over_a_unix_socket_are_handed_over(
    team: RunTeam, tmp_path: Path
) -> None:
    workers = await team(2, handing_over=True)
    await web.UnixSite(workers[0].runner, str(tmp_path / "clients")).start()
    wire = Wire(*await asyncio.open_unix_connection(str(tmp_path / "clients")))
    for number in (1, 0):
        path = path_at(workers, number)
        assert (await wire.request("POST", f"/echo{path}/xhr", b"")).body == b"o\n"
        await until_waiting(workers[number])
    await until_counted(workers, (2, 0))
    wire.close()


# How requests arrive.


async def test_requests_for_two_owners_in_one_segment_are_answered_in_order(team: RunTeam) -> None:
    workers = await team(3, handing_over=True)
    paths = [path_at(workers, number) for number in (1, 2, 0)]
    wire = await workers[0].wire()
    wire.writer.write(b"".join(request(path, "xhr") for path in paths))
    assert [(await wire.reply()).body for _ in range(3)] == [b"o\n"] * 3
    sends = [request(path, "xhr_send", b'["%d"]' % n) for n, path in enumerate(paths)]
    polls = [request(path, "xhr") for path in paths]
    wire.writer.write(b"".join(sends + polls))
    assert [(await wire.reply()).status for _ in range(3)] == [204] * 3
    assert [(await wire.reply()).body for _ in range(3)] == [b'a["%d"]\n' % n for n in range(3)]
    assert [worker.router.session_count for worker in workers] == [1, 1, 1]


async def test_a_request_may_be_cut_at_any_place(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    path = path_at(workers, 1)
    assert await workers[1].poll(path) == b"o"
    size = len(request(path, "xhr_send", b'["1"]'))
    for cut in range(1, size):
        data = request(path, "xhr_send", b'["%d"]' % (cut % 10)) + request(path, "xhr")
        wire = await workers[0].wire()
        wire.writer.write(data[:cut])
        await pause()
        wire.writer.write(data[cut:])
        assert (await wire.reply()).status == 204, cut
        assert (await wire.reply()).body == b'a["%d"]\n' % (cut % 10), cut
        wire.close()
    handed_over, relayed = counts(workers)
    assert handed_over and relayed  # by whether the first line was there


async def until_waiting(worker: Member) -> None:
    """Wait until aiohttp has done all that it does after the responses of a worker."""
    await until(lambda: all(map(aiohttp_protocol.is_waiting, connections(worker))))


async def pause() -> None:
    """Let the kernel and the workers, which share this loop, handle what was written."""
    for _ in range(6):
        await asyncio.sleep(0)


async def test_a_request_may_come_byte_by_byte_behind_another(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    own, other = (path_at(workers, number) for number in range(2))
    for path in (own, other):
        assert await workers[workers.owner_number(path)].poll(path) == b"o"
    wire = await workers[0].wire()
    for _ in range(2):
        for path in (own, other):
            for byte in request(path, "xhr_send", b'["1"]'):
                wire.writer.write(bytes([byte]))
                await pause()
            assert (await wire.reply()).status == 204
    assert counts(workers) == (0, 2)
    await until_waiting(workers[0])
    for expected in ((0, 3), (1, 3)):  # one request whole, and it is known where the next begins
        assert (await wire.request("POST", f"/echo{other}/xhr_send", b'["1"]')).status == 204
        await until_counted(workers, expected)
        await until_waiting(workers[0])


async def test_a_body_may_come_later(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    path = path_at(workers, 1)
    assert await workers[1].poll(path) == b"o"
    body = json.dumps(["x" * 300_000]).encode()
    wire = await workers[0].wire()
    whole = request(path, "xhr_send", body)
    wire.writer.write(whole[:200])
    await until_counted(workers, (1, 0))
    wire.writer.write(whole[200:])
    assert (await wire.reply()).status == 204
    assert await workers[1].poll(path) == b"a" + body


@pytest.mark.parametrize(
    "data",
    [
        b"GET /echo/0/%s/websocket HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /other/0/%s HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /echo/0/%s/xhr HTTP/1.0\r\nHost: a\r\n\r\n",
        b"POST /echo/0/%s/x%%68r HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST  /echo/0/%s/xhr HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"OPTIONS /echo/0/%s/xhr HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST /echo/0/%s/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"\r\nPOST /echo/0/%s/xhr HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_what_no_client_sends_stays_where_it_came_in(team: RunTeam, data: bytes) -> None:
    workers = await team(2, handing_over=True)
    path = path_at(workers, 1)
    wire = await workers[0].wire()
    wire.writer.write(data % path[3:].encode())
    assert (await wire.reply()).status < 500
    assert counts(workers)[0] == 0
