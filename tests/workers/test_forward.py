"""How requests are handed on: bodies as they come, answers as they are, lost connections."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import async_timeout
import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from sockjs_aio import ConnectionInfo
from sockjs_aio.cluster.relay.peers import OwnerLostError, Peer
from sockjs_aio.cluster.relay.session_lost import last_words
from sockjs_aio.cluster.workers.placement import worker_at
from sockjs_aio.server.service import Service
from tests.clients import HTTP, STREAMS, Client, Xhr
from tests.process import PATIENCE
from tests.workers.conftest import RunTeam
from tests.workers.test_relay import each_http, open_elsewhere

pytestmark = pytest.mark.not_over("handing-over")  # it is about relayed requests

MEGABYTE = 1 << 20


@pytest.mark.parametrize("in_chunks", [False, True])
async def test_a_body_that_comes_slowly_arrives_as_it_comes(team: RunTeam, in_chunks: bool) -> None:
    workers = await team(2, settings={"max_message_size": 2 * MEGABYTE})
    client = await open_elsewhere(workers, Xhr)
    payload = json.dumps(["x" * MEGABYTE]).encode()
    wire = await client.served.wire()
    how = "Transfer-Encoding: chunked" if in_chunks else f"Content-Length: {len(payload)}"
    head = f"POST /echo{client.path}/xhr_send HTTP/1.1\r\nHost: a\r\n{how}\r\n\r\n"
    wire.writer.write(head.encode())
    uploads: Any = workers.owner(client.path).router._registry.closing.uploads
    sent = 0
    while sent < len(payload):
        part = payload[sent : sent + 50_000]
        sent += len(part)
        wire.writer.write(b"%x\r\n%b\r\n" % (len(part), part) if in_chunks else part)
        async with async_timeout.timeout(5):  # the owner has it before more is sent
            while not any(upload.total_bytes >= sent for upload in uploads) and sent < len(payload):
                await asyncio.sleep(0.001)
    if in_chunks:
        wire.writer.write(b"0\r\n\r\n")
    assert (await wire.reply()).status == 204
    assert await client.messages(1) == ["x" * MEGABYTE]


async def test_an_early_answer_ends_the_connection_where_a_body_is_on_its_way(
    team: RunTeam,
) -> None:
    workers = await team(2)
    served = workers.elsewhere("/0/nobody")
    wire = await served.wire()
    wire.send("POST", "/echo/0/nobody/xhr_send", headers={"Content-Length": "100000"})
    reply = await wire.reply()
    assert (reply.status, reply.header("Connection")) == (404, "close")
    wire.writer.write(b"x" * 100_000 + b"GET /echo/info HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await wire.is_closed()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@each_http
async def test_one_connection_serves_a_client_as_it_would_without_relay(
    team: RunTeam, transport: type[Client], version: str
) -> None:
    """Streams end the connection of HTTP/1.0 and come without chunks, polls keep what is asked."""
    workers = await team(2, settings={"response_limit": 1})
    client: Any = transport(workers[0], {})
    client.served = workers.elsewhere(client.path)
    method, end = client._request()
    body = b"" if method == "POST" else None
    headers = {"Connection": "keep-alive"} if version == "1.0" else {}
    wire = await client.served.wire()
    wire.send(method, "/echo" + client.path + end, body, headers=headers, version=version)
    reply = await wire.reply()
    assert (reply.version, reply.status) == (f"HTTP/{version}", 200)
    is_kept = not (version == "1.0" and transport in STREAMS)
    assert bool(reply.chunks) == (version == "1.1" and transport in STREAMS)
    assert reply.header("Connection") == ("keep-alive" if is_kept and version == "1.0" else None)
    if is_kept:
        status = (await wire.request("GET", "/echo/info", headers=headers, version=version)).status
        assert status == 200
    else:
        assert await wire.is_closed()


@each_http
async def test_verify_is_asked_at_the_owner_about_the_client(
    team: RunTeam, transport: type[Client]
) -> None:
    asked = []

    def verify(request: web.Request, info: ConnectionInfo) -> bool:
        asked.append((request.remote, request.headers.get("X-Key")))
        return request.headers.get("X-Key") == info.headers.get("X-Key")

    workers = await team(2, verify=verify)
    client = await open_elsewhere(workers, transport, headers={"X-Key": "mine"})
    await client.send("a")
    assert await client.messages(1) == ["a"]
    client.headers = {"X-Key": "a guess"}
    assert await client.send_payload('["b"]') == 403
    thief = transport(client.served, {"headers": {"X-Key": "a guess"}})
    method, end = thief._request()  # type: ignore[attr-defined]
    reply = await client.served.request(
        method, client.path + end, b"" if method == "POST" else None, headers=thief.headers
    )
    assert (reply.status, reply.body) == (403, b"This session belongs to another client.\n")
    assert set(asked) == {("127.0.0.1", "mine"), ("127.0.0.1", "a guess")}


async def test_hooks_on_responses_run_once_and_at_the_owner(team: RunTeam) -> None:
    @web.middleware
    async def compress(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        response.enable_compression()
        return response

    prepared = []

    async def note(request: web.Request, response: web.StreamResponse) -> None:
        prepared.append(request.path)

    workers = await team(2, middlewares=[compress], on_response_prepare=[note])
    client = workers.elsewhere("/0/abc")
    headers = {"Accept-Encoding": "gzip"}
    reply = await client.request("POST", "/0/abc/xhr", b"", headers=headers)
    assert reply.header("Content-Encoding") == "gzip"
    assert reply.body[:2] == b"\x1f\x8b"
    assert prepared == ["/echo/0/abc/xhr"]


# What placement say.


class Said:
    """Says what a test has it say, and notes what it was asked."""

    def __init__(self, peer: Peer | None = None, is_lost: bool = False) -> None:
        self.asked: list[tuple[str, bool]] = []
        self._peer = peer
        self._is_lost = is_lost

    async def owner(self, session_id: str, service: Service, opens: bool) -> Peer | None:
        self.asked.append((session_id, opens))
        if self._is_lost:
            raise OwnerLostError
        return self._peer

    async def close(self) -> None:
        if self._peer is not None:
            await self._peer.client.close()


async def test_who_has_the_session_asks_nobody_where_it_is(team: RunTeam) -> None:
    (worker,) = await team(1)
    said = worker.locator.placement = Said()
    client = await Xhr.open(worker)
    assert said.asked == [(client.path[5:], True)]
    for number in range(5):
        await client.send(str(number))
        assert await client.messages(1) == [str(number)]
    assert len(said.asked) == 1
    assert await worker.post("/0/nobody", "[]") == 404
    assert said.asked[1:] == [("nobody", False)]


@pytest.mark.parametrize("transport", HTTP, ids=lambda client: client.name)
async def test_a_session_that_has_died_with_its_process_is_over(
    team: RunTeam, transport: type[Client]
) -> None:
    (worker,) = await team(1)
    worker.locator.placement = Said(is_lost=True)
    client: Any = transport(worker, {})
    assert await client.send_payload('["x"]') == 404
    method, end = client._request()
    body = b"" if method == "POST" else None
    reply = await worker.request(method, client.path + end, body)
    assert reply.status == 200
    if transport in STREAMS:  # and as much before it as ever
        assert reply.header("X-Accel-Buffering") == "no"
        assert reply.body.endswith(last_words(transport.name))
        assert len(reply.body) - len(last_words(transport.name)) in (2, 2049, 1029)
    else:
        assert client._undress(reply.body) == b'c[1002,"Connection interrupted"]'
    assert worker.router.session_count == 0


# Connections that end.


class Scripted:
    """A process that ends some connections, and answers the other requests with 200.

    Args:
        breaks: How many requests get no answer.
    """

    def __init__(self, breaks: int) -> None:
        self.seen = 0
        self._breaks = breaks

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
                await reader.readexactly(int(headers.get("Content-Length", "0")))
                self.seen += 1
                if self.seen <= self._breaks:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh\n")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[Any]:
    """Run a `Scripted` and return a peer that is it."""
    servers = []

    async def run(process: Scripted) -> Peer:
        path = str(tmp_path / "scripted")
        servers.append(await asyncio.start_unix_server(process.serve, path))
        return worker_at(path)

    yield run
    for server in servers:
        server.close()


@pytest.mark.parametrize("end, lost", [("xhr_send", 404), ("xhr", 200), ("xhr_streaming", 200)])
@pytest.mark.parametrize("breaks", [1, 2])
async def test_who_ends_a_connection_without_an_answer_is_asked_once_more(
    team: RunTeam, scripted: Any, breaks: int, end: str, lost: int
) -> None:
    """It may have ended a connection for its age when the request came."""
    process = Scripted(breaks)
    (worker,) = await team(1)
    worker.locator.placement = Said(await scripted(process))
    reply = await worker.request("POST", f"/0/abc/{end}", b"[]")
    assert process.seen == 2
    if breaks == 1:
        assert (reply.status, reply.body) == (200, b"h\n")
    else:
        assert reply.status == lost
        if lost == 200:
            assert reply.body.endswith(b'c[1002,"Connection interrupted"]\n')


async def test_messages_are_not_sent_again_through_a_network(team: RunTeam, scripted: Any) -> None:
    """It may have broken after they were taken."""
    process = Scripted(1)
    (worker,) = await team(1)
    worker.locator.placement = Said(await scripted(process))
    worker.relay.spans_hosts = True
    assert await worker.post("/0/abc", '["x"]') == 404
    assert process.seen == 1
    assert await worker.poll("/0/abc") == b"h"


async def test_a_body_that_was_not_kept_is_not_sent_again(team: RunTeam, scripted: Any) -> None:
    process = Scripted(1)
    (worker,) = await team(1)
    worker.locator.placement = Said(await scripted(process))
    reply = await worker.request("POST", "/0/abc/xhr_send", b"x" * 1_000_000)
    assert reply.status == 404
    assert process.seen == 1


@pytest.mark.parametrize("end", ["xhr_send", "jsonp_send", "xhr", "xhr_streaming"])
@pytest.mark.parametrize("expectation", [{}, {"Expect": "100-continue"}])
async def test_a_client_that_has_left_before_its_request_begins_leaves_nothing_in_the_log(
    team: RunTeam, monkeypatch: pytest.MonkeyPatch, end: str, expectation: dict[str, str]
) -> None:
    """aiohttp begins the request nevertheless, and then the body does not tell."""
    workers = await team(2, handler_cancellation=False)
    path = "/0/abc"
    assert await workers.owner(path).poll(path) == b"o"
    worker = workers.elsewhere(path)
    begin, ended = RequestHandler._handle_request, asyncio.Event()

    async def begin_late(handler: Any, request: Any, *arguments: Any) -> Any:
        if request.path.endswith(end) and "Sockjs-Relay" not in request.headers:
            handler.transport.abort()
            while handler.transport is not None:
                await asyncio.sleep(0)
        try:
            return await begin(handler, request, *arguments)
        finally:
            ended.set()

    monkeypatch.setattr(RequestHandler, "_handle_request", begin_late)
    wire = await worker.wire()
    headers = {"Content-Length": "90000", **expectation}
    wire.send("POST", f"/echo{path}/{end}", headers=headers)
    async with async_timeout.timeout(PATIENCE):
        await ended.wait()
