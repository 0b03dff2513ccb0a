"""What the owner of a session knows of requests that others hand on, and what is done there."""

import asyncio
import time
from typing import Any

import async_timeout
import pytest
from aiohttp import web
from aiohttp_remotes import XForwardedRelaxed, setup

from sockjs_aio import ConnectionInfo, Grant, SockJSConnection
from tests.clients import Client, Xhr, XhrStreaming
from tests.wire import Wire
from tests.workers.conftest import RunTeam
from tests.workers.test_relay import each_http, each_poll, open_elsewhere

# counts relayed requests
of_relay = pytest.mark.not_over("handing-over")


class Informer(SockJSConnection):
    """Keeps what connections are told of the request that has opened them."""

    infos: list[ConnectionInfo]

    def __init_subclass__(cls) -> None:
        cls.infos = []

    async def on_open(self, info: ConnectionInfo) -> None:
        self.infos.append(info)


@each_http
async def test_the_owner_knows_the_client_as_if_it_had_come_to_it(
    team: RunTeam, transport: type[Client]
) -> None:
    class Told(Informer):
        pass

    workers = await team(2, Told)
    headers = {"Cookie": "a=b; c=d", "X-Mine": "\u00fc 1", "Origin": "http://a.example"}
    await open_elsewhere(workers, transport, headers=headers, query="t=1&u=%20")
    (info,) = Told.infos
    assert info.ip == "127.0.0.1"
    assert info.cookies == {"a": "b", "c": "d"}
    assert info.headers["X-Mine"] == "\u00fc 1"
    assert info.headers["Host"] == "localhost"
    assert info.query["t"] == "1" and info.query["u"] == " "
    assert info.transport == transport.name


async def test_authorize_runs_once_and_at_the_owner(team: RunTeam) -> None:
    asked = []

    async def authorize(request: web.Request) -> bool:
        asked.append((request.remote, request.scheme, request.cookies.get("key")))
        return request.cookies.get("key") == "right"

    workers = await team(2, authorize=authorize)
    for path in ("/0/a", "/0/b"):
        for served in workers:
            reply = await served.request("POST", path + "/xhr", b"", headers={"Cookie": "key=no"})
            assert reply.status == 403
    assert asked == [("127.0.0.1", "http", "no")] * 4
    client = await open_elsewhere(workers, Xhr, headers={"Cookie": "key=right"})
    await client.send("in")
    assert await client.messages(1) == ["in"]
    assert len(asked) == 5


@each_http
async def test_session_ends_with_its_authorization_at_the_owner(
    team: RunTeam, transport: type[Client]
) -> None:
    async def authorize(request: web.Request) -> Grant:
        return Grant("ann", until=time.time() + 0.3)

    settings = {"session_check_interval": 0.02}
    workers = await team(2, settings=settings, authorize=authorize)
    client = await open_elsewhere(workers, transport)
    async with async_timeout.timeout(20):
        while not (frame := await client._frame()).startswith(b"c"):
            assert frame in (b"h", b""), frame
    assert frame == b'c[4401,"Authorization expired"]'


async def test_middlewares_see_each_request_once_and_at_the_owner(team: RunTeam) -> None:
    seen = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        seen.append(request.path)
        response: web.StreamResponse = await handler(request)
        response.headers.add("X-Seen", "yes")
        return response

    workers = await team(2, middlewares=[note])
    path = "/0/abc"
    reply = await workers.elsewhere(path).request("POST", path + "/xhr", b"")
    assert reply.header("X-Seen") == "yes"
    assert seen == ["/echo/0/abc/xhr"]


async def test_addresses_are_verified_and_counted_at_the_owner(team: RunTeam) -> None:
    workers = await team(2, settings={"verify_ip": True, "max_sessions_per_ip": 1})
    path, other = "/0/abc", "/0/other"
    while workers.owner_number(path) != workers.owner_number(other):
        other += "x"
    served = workers.elsewhere(path)
    assert await served.poll(path) == b"o"
    assert (await served.request("POST", other + "/xhr", b"")).status == 429
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", served.port, local_addr=("127.0.0.2", 0)
    )
    stranger = Wire(reader, writer)
    reply = await stranger.request("POST", f"/echo{path}/xhr", b"")
    assert reply.status == 403
    stranger.close()


async def test_middlewares_that_read_forwarded_addresses_do_so_at_the_owner(
    team: RunTeam,
) -> None:
    class Told(Informer):
        pass

    app = web.Application()
    await setup(app, XForwardedRelaxed())
    workers = await team(2, Told, middlewares=list(app.middlewares))
    path = "/0/abc"
    headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
    await workers.elsewhere(path).poll(path, headers=headers)
    assert [info.ip for info in Told.infos] == ["192.0.2.7"]


@each_poll
async def test_a_second_receiver_is_refused(team: RunTeam, transport: type[Client]) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, transport)
    second = transport(client.served, {})
    second.path = client.path
    await second.connect()
    assert await second.frame() == b'c[2010,"Another connection still open"]'


async def test_the_log_says_nothing_of_lost_sessions_where_the_relay_finds_them(
    team: RunTeam, caplog: pytest.LogCaptureFixture
) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, XhrStreaming)
    for number in range(20):
        await client.send(str(number))
    assert not [record for record in caplog.records if "stick" in record.message.lower()]


@of_relay
async def test_connections_between_workers_are_used_again(team: RunTeam) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, Xhr)
    for number in range(50):
        await client.send(str(number))
        await client.messages(1)
    assert client.served.relay.exchanges.count > 90
    server = workers.owner(client.path).runner.server
    assert server is not None
    assert len(server.connections) <= 3  # one for a poll, one for sends, and one by chance
