"""Connections that cannot be handed over, and workers that die, hang, or lack something."""

import asyncio
import json
import os
import socket
import sys
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio.cluster.workers import handover_links
from sockjs_aio.cluster.workers.handover_links import MAX_DATA
from tests.certificate import contexts, make_certificate
from tests.conftest import PATIENCE
from tests.wire import Wire
from tests.workers.conftest import Member, RunTeam, Team
from tests.workers.test_handover import (
    connections,
    counts,
    path_at,
    pause,
    request,
    until,
    until_counted,
)

pytestmark = pytest.mark.skipif(
    not handover_links.is_possible(), reason="this system cannot pass sockets in messages"
)


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


@pytest.mark.programs  # openssl makes the certificate
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
    assert "cannot take over connections, so other workers relay requests: " in caplog.text
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
