"""Connections that are handed over to the worker that has the session; and those that are not."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import async_timeout
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.cluster.workers import handover_links
from sockjs_aio.cluster.workers.handover_links import MAX_DATA
from sockjs_aio.server import aiohttp_protocol
from tests.certificate import contexts, make_certificate
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


# What cannot be handed over is relayed.


async def relayed(workers: Team, served: Member | None = None) -> None:
    """Open a session of worker 1 at worker 0, and see that the request was relayed."""
    before = counts(workers)
    path = path_at(workers, 1, f"r{before[1]}")
    assert await (served or workers[0]).poll(path) == b"o"
    assert counts(workers) == (before[0], before[1] + 1)
    assert workers[1].router.session_count > 0


async def test_connections_to_a_worker_that_takes_none_are_kept(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    assert await workers[0].poll(path_at(workers, 1)) == b"o"
    await until_counted(workers, (1, 0))
    workers[1].handovers.close_intake()
    await relayed(workers)
    workers[1].handovers.reopen()
    assert await workers[0].poll(path_at(workers, 1, "again")) == b"o"
    await until_counted(workers, (2, 1))


async def test_connections_with_tls_are_kept(
    team: RunTeam, tmp_path_factory: pytest.TempPathFactory
) -> None:
    workers = await team(2, handing_over=True)
    ours, theirs = contexts(make_certificate(tmp_path_factory.mktemp("tls")))
    site = web.TCPSite(workers[0].runner, "127.0.0.1", 0, ssl_context=ours)
    await site.start()
    wire = await Wire.connect(site.port, theirs)
    path = path_at(workers, 1)
    assert (await wire.request("POST", f"/echo{path}/xhr", b"")).body == b"o\n"
    assert counts(workers) == (0, 1)
    wire.close()


async def test_a_connection_over_which_much_was_read_is_kept(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    path = path_at(workers, 1)
    assert await workers[1].poll(path) == b"o"
    body = json.dumps(["x" * MAX_DATA]).encode()
    wire = await workers[0].wire()
    sock = wire.writer.get_extra_info("socket")
    assert os.write(sock.fileno(), request(path, "xhr_send", body)) > MAX_DATA
    assert (await wire.reply()).status == 204
    assert await workers[1].poll(path) == b"a" + body
    assert sum(counts(workers)) == 1  # handed over if the kernel gave less than all of it


async def test_a_connection_that_has_not_taken_its_last_response_is_kept(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    own, other = (path_at(workers, number) for number in range(2))
    text = "x" * 4_000_000
    for path in (own, other):
        assert await workers[0].poll(path) == b"o"
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", workers[0].port))
    wire = await workers[0].wire(sock=sock)
    wire.stop_reading()
    for _ in range(4):
        assert await workers[0].post(own, json.dumps([text[:900_000]])) == 204
    wire.send("POST", f"/echo{own}/xhr", b"")
    await pause()
    wire.send("POST", f"/echo{other}/xhr_send", b'["behind"]')
    await pause()
    wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    received = 0
    while received < 4:
        frame = (await wire.reply()).body
        if frame == b"":  # of the send, which came behind the first poll
            continue
        received += len(json.loads(frame[1:]))
        if received < 4:
            wire.send("POST", f"/echo{own}/xhr", b"")
    assert await workers[0].poll(other) == b'a["behind"]'


# Other workers that die, hang, or are none.


class Silent:
    """Stands where a worker's intake was, and does what a dying worker may do."""

    def __init__(self, worker: Member) -> None:
        worker.handovers.close_intake()
        path = worker.placement.handover_path(worker.placement.own)
        os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen(5)
        self.listener.setblocking(False)
        self.link: socket.socket | None = None

    async def accept(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        self.link, _ = await loop.sock_accept(self.listener)
        return self.link

    def close(self) -> None:
        self.listener.close()
        if self.link is not None:
            self.link.close()


async def test_a_worker_that_dies_before_it_answers_does_not_lose_the_request(
    team: RunTeam,
) -> None:
    workers = await team(2, handing_over=True)
    silent = Silent(workers[1])
    path = path_at(workers, 1)
    polling = asyncio.create_task(workers[0].poll(path))
    link = await silent.accept()
    message, numbers, _, _ = await _received(link)
    assert message.startswith(b"POST /echo")
    silent.close()
    for number in numbers:
        os.close(number)
    assert await polling == b"o"
    assert counts(workers) == (0, 1)


async def _received(link: socket.socket) -> Any:
    async with async_timeout.timeout(PATIENCE):
        while True:
            try:
                return socket.recv_fds(link, MAX_DATA, 1)
            except BlockingIOError:
                await asyncio.sleep(0.002)


async def test_of_what_a_dying_worker_was_sent_only_what_it_took_is_gone(team: RunTeam) -> None:
    """It closes its socket with messages in it, so the sender gets an error before its answers."""
    workers = await team(2, handing_over=True)
    silent = Silent(workers[1])
    paths = [path_at(workers, 1, f"a{number}") for number in range(4)]
    wires = []
    for path in paths:
        wires.append(await workers[0].wire())
        wires[-1].send("POST", f"/echo{path}/xhr", b"")
        await pause()
    link = await silent.accept()
    taken = []
    for _ in range(2):
        _, numbers, _, _ = await _received(link)
        taken += numbers
    link.send(b"+")
    link.send(b"-")
    silent.close()
    for number in taken:
        os.close(number)
    assert await wires[0].is_closed()  # its worker had it, and is dead
    for wire in wires[1:]:
        assert (await wire.reply()).body == b"o\n"
    await until_counted(workers, (1, 3))


async def test_requests_are_relayed_once_the_queue_of_a_worker_is_full(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    silent = Silent(workers[1])
    wires = []
    async with async_timeout.timeout(PATIENCE):
        while not workers[0].relay.exchanges.count:
            wires.append(await workers[0].wire())
            path = path_at(workers, 1, f"a{len(wires)}")
            data = request(path, "xhr_send", b'["' + b"x" * 40_000 + b'"]')
            wires[-1].writer.write(data)
            await pause()
    assert len(wires) > 1
    silent.close()
    for wire in wires:
        assert (await wire.reply()).status == 404  # there is no such session
    assert counts(workers) == (0, len(wires))


async def test_a_worker_that_cannot_take_connections_says_so(
    team: RunTeam, caplog: pytest.LogCaptureFixture
) -> None:
    workers = await team(2, handing_over=True)
    workers[1].handovers.close_intake()
    path = workers[1].placement.handover_path(1)
    os.unlink(path)
    os.mkdir(path)
    workers[1].handovers.reopen()
    assert "cannot take connections of other workers, so they relay: " in caplog.text
    await relayed(workers)


async def test_what_is_not_a_connection_is_refused(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    path = workers[1].placement.handover_path(1)
    lost = socket.socket()
    reading, writing = os.pipe()
    for numbers in ([], [reading], [lost.fileno()]):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.connect(path)
            link.setblocking(False)
            socket.send_fds(link, [b"x"], numbers)
            assert await asyncio.get_running_loop().sock_recv(link, 1) == b"-"
    lost.close()
    os.close(reading)
    os.close(writing)
    assert workers[1].handovers.taken == 0


@pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc shows")
async def test_no_file_descriptor_stays_open(team: RunTeam) -> None:
    workers = await team(2, handing_over=True)
    path = path_at(workers, 1)
    assert await workers[0].poll(path) == b"o"  # makes the link

    def open_now() -> int:
        return len(os.listdir("/proc/self/fd"))

    await until(lambda: not connections(workers[1]))
    before = open_now()
    for _ in range(50):
        assert await workers[0].post(path, '["x"]') == 204
    wires = [await workers[0].wire() for _ in range(20)]
    for wire in wires:  # some leave before they are there
        wire.writer.write(request(path, "xhr_send", b'["x"]'))
        wire.abort()
    silent = Silent(workers[1])
    late = [await workers[0].wire() for _ in range(5)]
    for wire in late:
        wire.writer.write(request(path, "xhr_send", b'["x"]'))
    await silent.accept()
    silent.close()
    for wire in late:
        assert (await wire.reply()).status == 204
        wire.close()
    workers[1].handovers.reopen()
    await workers[0].post(path, '["x"]')
    client = workers[0].placement  # the relay keeps its connections
    await client.close()
    await until(lambda: open_now() <= before)
    assert open_now() <= before
