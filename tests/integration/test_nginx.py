"""Every transport through the real nginx, with the configuration that docs/deployment.md gives."""

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.certificate import make_certificate
from tests.conftest import require
from tests.integration.client import TRANSPORTS, Client, fetch, open_websocket, pids_of
from tests.integration.haproxy import (
    documented,
    find_program,
    listens,
    replace,
    until,
    wait_until,
)
from tests.integration.node import NodeProcess, running_nodes
from tests.ports import free_port
from tests.process import PATIENCE

pytestmark = pytest.mark.haproxy

MakeClient = Callable[..., Client]

# what a complete configuration has around the block of the docs
FRAME = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    %s
}
"""


UPSTREAM = re.compile(r"^upstream .*?^}\n", re.DOTALL | re.MULTILINE)


@contextlib.contextmanager
def nginx(directory: Path, block: str, nodes: list[NodeProcess]) -> Iterator[int]:
    """Run nginx with `block` of the docs before `nodes`; yield its port."""
    program = find_program("nginx")
    require(program, "nginx")
    port = free_port()
    block = re.sub(r"listen \d+", f"listen 127.0.0.1:{port}", block)
    block = replace(block, "127.0.0.1:8081", f"127.0.0.1:{nodes[0].port}")
    block = replace(block, "127.0.0.1:8082", f"127.0.0.1:{nodes[1].port}")
    (directory / "nginx.conf").write_text(FRAME % block)
    with open(directory / "stderr", "wb") as log:
        process = subprocess.Popen([str(program), "-p", directory, "-c", "nginx.conf"], stderr=log)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, (directory / "stderr").read_text()
        yield port
    finally:
        process.kill()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[NodeProcess]]:
    with running_nodes(2) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def port(nodes: list[NodeProcess], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx before `nodes`."""
    with nginx(tmp_path_factory.mktemp("nginx"), documented("nginx"), nodes) as port:
        yield port


@pytest.fixture
async def make_client(port: int) -> AsyncIterator[MakeClient]:
    """Make a `Client` of nginx that is closed after the test."""
    clients: list[Client] = []

    def make(*args: Any, **kwargs: Any) -> Client:
        clients.append(Client(port, *args, **kwargs))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_http_transport_echoes_at_once(make_client: MakeClient, transport: str) -> None:
    client = make_client(transport)
    assert await client.receive() == "o"
    delays = []
    for _ in range(9):
        began = time.perf_counter()
        assert await client.ask("x") == "x"
        delays.append(time.perf_counter() - began)
    assert sorted(delays)[4] < 0.1
    assert await client.ask("x" * 100_000) == "x" * 100_000


async def test_websocket_echoes(port: int) -> None:
    async with open_websocket(port, "/echo/000/x/websocket") as websocket:
        assert await websocket.receive_str() == "o"
        await websocket.send_str('["one"]')
        assert await websocket.receive_str() == 'a["one"]'


async def test_raw_websocket_echoes(port: int) -> None:
    async with open_websocket(port, "/echo/websocket") as websocket:
        await websocket.send_bytes(b"\0\xff")
        assert await websocket.receive_bytes() == b"\0\xff"


async def test_info_is_served(port: int) -> None:
    reply = await fetch(port, "/echo/info")
    assert json.loads(reply.body)["websocket"] is True


async def test_requests_of_a_session_reach_one_process(
    make_client: MakeClient, nodes: list[NodeProcess]
) -> None:
    clients = [make_client() for _ in range(30)]

    assert await asyncio.gather(*(client.receive() for client in clients)) == ["o"] * 30
    first = await pids_of(clients)
    assert set(first) == {node.pid for node in nodes}
    for _ in range(5):
        assert await pids_of(clients) == first


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_server_notices_a_client_that_leaves(
    make_client: MakeClient, nodes: list[NodeProcess], transport: str, way: str
) -> None:
    client = make_client(transport)
    assert await client.receive() == "o"
    pid = (await client.who())["pid"]
    (node,) = [node for node in nodes if node.pid == pid]

    async def is_waiting() -> bool:
        return client.session_id in (await node.state())["waiting"]

    async def has_closed() -> bool:
        return client.session_id in (await node.state())["closed"]

    await client.begin()
    await until(is_waiting)
    getattr(client, way)()
    began = time.perf_counter()
    await until(has_closed)
    assert time.perf_counter() - began < 2  # and not at the next heartbeat


async def test_client_address_arrives(make_client: MakeClient) -> None:
    forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    client = make_client(local_host="127.0.0.2", headers=forged)
    assert await client.receive() == "o"
    answer = await client.who()
    assert (answer["ip"], answer["scheme"]) == ("127.0.0.2", "http")


async def test_by_address_all_sessions_of_a_client_reach_one_process(
    nodes: list[NodeProcess], tmp_path: Path
) -> None:
    block = UPSTREAM.sub(documented("nginx", "ip_hash"), documented("nginx"))
    with nginx(tmp_path, block, nodes) as port:
        clients = [Client(port, transport) for transport in TRANSPORTS for _ in range(3)]
        assert set(await asyncio.gather(*(client.receive() for client in clients))) == {"o"}
        assert len(set(await pids_of(clients))) == 1
        for client in clients:
            client.close()


async def test_tls_ends_at_nginx(nodes: list[NodeProcess], tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    listen = documented("nginx", "443")
    listen = replace(listen, "/etc/ssl/site.crt", str(certificate))
    listen = replace(listen, "/etc/ssl/site.key", str(certificate))
    block = replace(documented("nginx"), "listen 80;", listen)
    trust = ssl.create_default_context(cafile=str(certificate))
    with nginx(tmp_path, block, nodes) as port:
        async with (
            aiohttp.ClientSession(f"https://127.0.0.1:{port}") as session,
            session.ws_connect("/echo/websocket", ssl=trust) as websocket,
        ):
            await websocket.send_str("who")
            assert (await websocket.receive_json())["scheme"] == "https"
            frames = []
            for url, body in [("xhr", ""), ("xhr_send", '["who"]'), ("xhr", "")]:
                path = f"/echo/000/abc/{url}"
                async with session.post(path, data=body, ssl=trust) as response:
                    frames.append(await response.text())
            assert json.loads(json.loads(frames[2][1:])[0])["scheme"] == "https"


async def test_sessions_of_a_process_that_ends_are_told_and_come_back_elsewhere(
    tmp_path: Path,
) -> None:
    with running_nodes(2) as nodes, nginx(tmp_path, documented("nginx"), nodes) as port:
        clients = [Client(port, transport) for transport in TRANSPORTS for _ in range(4)]
        assert set(await asyncio.gather(*(client.receive() for client in clients))) == {"o"}
        pids = await pids_of(clients)
        assert set(pids) == {node.pid for node in nodes}
        loop = asyncio.get_running_loop()
        ended = loop.run_in_executor(None, nodes[0].stop, signal.SIGTERM)

        async def come_back(client: Client, pid: int) -> None:
            if pid == nodes[0].pid:
                assert await client.receive() == 'c[1012,"Service restart"]'
                client.close()
                client = Client(port, client.transport)
                assert await client.receive() == "o"
            # some of those that are new hash to the process that ends, and are found all the same
            for _ in range(5):
                assert await client.pid() == nodes[1].pid
            client.close()

        # one by one: who polls after others were refused has to be led to its session, too
        for client, pid in zip(clients, pids, strict=True):
            await come_back(client, pid)
        assert await ended == 0


# Without stickiness.


@pytest.fixture
def own_relaying_nodes(redis: str) -> Iterator[list[NodeProcess]]:
    """Two servers that hand requests on to each other."""
    with running_nodes(2, redis=redis, relays=True) as nodes:
        yield nodes


def without_stickiness() -> str:
    """Make what the docs say to make of the block."""
    block = replace(documented("nginx"), "    hash $sockjs_session consistent;\n", "")
    inner = documented("nginx", "jsonp_send)$ {")
    return replace(block, "        # 503: the process", inner + "        # 503: the process")


@pytest.mark.redis
async def test_without_stickiness_each_request_finds_its_session(
    own_relaying_nodes: list[NodeProcess], tmp_path: Path
) -> None:
    with nginx(tmp_path, without_stickiness(), own_relaying_nodes) as port:
        clients = [Client(port, transport) for transport in TRANSPORTS for _ in range(4)]
        assert set(await asyncio.gather(*(client.receive() for client in clients))) == {"o"}
        pids = await pids_of(clients)
        assert set(pids) == {node.pid for node in own_relaying_nodes}
        for _ in range(5):
            assert await pids_of(clients) == pids
        for client in clients:
            assert await client.ask("x" * 100_000) == "x" * 100_000
            client.close()


@pytest.mark.redis
async def test_what_was_handed_on_is_not_sent_twice_when_a_process_dies(
    own_relaying_nodes: list[NodeProcess], tmp_path: Path
) -> None:
    owner, entry = own_relaying_nodes
    with nginx(tmp_path, without_stickiness(), own_relaying_nodes) as port:
        clients = [Client(port) for _ in range(6)]
        assert set(await asyncio.gather(*(client.receive() for client in clients))) == {"o"}
        await pids_of(clients)  # each process knows where they are
        pids = await pids_of(clients)
        client = next(x for x, pid in zip(clients, pids, strict=True) if pid == owner.pid)
        os.kill(owner.pid, signal.SIGSTOP)
        sends = [asyncio.ensure_future(client.post(str(number))) for number in range(4)]
        await asyncio.sleep(0.5)  # they are with the owner, or on their way through the other
        entry.stop(signal.SIGKILL)
        await asyncio.sleep(0.5)  # nginx has noticed
        os.kill(owner.pid, signal.SIGCONT)
        statuses = [reply.status for reply in await asyncio.gather(*sends)]
        messages = json.loads((await client.receive())[1:])
        assert len(messages) == len(set(messages)), messages
        assert sorted(statuses) == [204, 204, 502, 502]


async def test_killed_process_disturbs_nobody_else(tmp_path: Path) -> None:
    with running_nodes(2) as nodes, nginx(tmp_path, documented("nginx"), nodes) as port:
        clients = [Client(port, "xhr_streaming") for _ in range(12)]
        assert set(await asyncio.gather(*(client.receive() for client in clients))) == {"o"}
        pids = await pids_of(clients)
        assert set(pids) == {node.pid for node in nodes}
        nodes[0].stop(signal.SIGKILL)
        for client, pid in zip(clients, pids, strict=True):
            if pid == nodes[0].pid:
                assert client.stream is not None
                assert await asyncio.wait_for(client.stream.is_closed(), PATIENCE)
                client.close()
                client = Client(port, "xhr_streaming")
                assert await client.receive() == "o"
            assert await client.pid() == nodes[1].pid
            client.close()
