"""Every transport through the real haproxy, with the configuration that the project ships."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.integration.haproxy import (
    CONFIG,
    PATIENCE,
    SOCKJS_CLIENT,
    TRANSPORTS,
    Client,
    Haproxy,
    NodeProcess,
    documented,
    fetch,
    find_program,
    node_pair,
    open_websocket,
    replace,
    until,
)

pytestmark = pytest.mark.haproxy

STREAMS = [name for name, dress in TRANSPORTS.items() if dress.is_stream]

MakeClient = Callable[..., Client]
OpenClients = Callable[..., Awaitable[list[Client]]]


@pytest.fixture(scope="module")
def program() -> str:
    found = find_program("haproxy")
    require(found, "haproxy")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def nodes(program: str) -> Iterator[list[NodeProcess]]:
    with node_pair() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def front(
    program: str, nodes: list[NodeProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Haproxy]:
    """haproxy before `nodes`, which no test stops."""
    haproxy = Haproxy(program, tmp_path_factory.mktemp("haproxy"), nodes)
    yield haproxy
    haproxy.stop()


@pytest.fixture
def own_nodes(program: str) -> Iterator[list[NodeProcess]]:
    """Two servers that the test may stop."""
    with node_pair() as nodes:
        yield nodes


@pytest.fixture
def own_front(program: str, own_nodes: list[NodeProcess], tmp_path: Path) -> Iterator[Haproxy]:
    """haproxy before `own_nodes`, for the test alone."""
    haproxy = Haproxy(program, tmp_path, own_nodes)
    yield haproxy
    haproxy.stop()


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    """Make a `Client` that is closed after the test."""
    clients: list[Client] = []

    def make(*args: Any, **kwargs: Any) -> Client:
        clients.append(Client(*args, **kwargs))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
async def open_clients(make_client: MakeClient) -> OpenClients:
    """Open `count` sessions through `front`."""

    async def open_all(front: Haproxy, count: int, transport: str = "xhr") -> list[Client]:
        clients = [make_client(front.port, transport) for _ in range(count)]
        assert await asyncio.gather(*(client.receive() for client in clients)) == ["o"] * count
        return clients

    return open_all


async def pids_of(clients: list[Client]) -> list[int]:
    """Ask each client's session on which process it is."""
    return [answer["pid"] for answer in await asyncio.gather(*(c.who() for c in clients))]


def test_configuration_is_valid_without_warnings(program: str) -> None:
    check = subprocess.run([program, "-c", "-dW", "-f", CONFIG], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


# Transports.


@pytest.mark.parametrize("prefix", ["/echo", "/a/b/echo"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_http_transport_echoes(
    front: Haproxy, transport: str, prefix: str, make_client: MakeClient
) -> None:
    client = make_client(front.port, transport, prefix)
    assert await client.receive() == "o"
    for message in ["one", "%41 </script>\u2028\U0001f600", "x" * 100_000]:
        assert await client.ask(message) == message


@pytest.mark.parametrize("prefix", ["/echo", "/a/b/echo"])
async def test_websocket_echoes(front: Haproxy, prefix: str) -> None:
    async with open_websocket(front.port, prefix + "/000/x/websocket") as websocket:
        assert await websocket.receive_str() == "o"
        for message in ["one", "x" * 100_000]:
            await websocket.send_str(json.dumps([message]))
            assert await websocket.receive_json(loads=lambda frame: json.loads(frame[1:])) == [
                message
            ]


@pytest.mark.parametrize("prefix", ["/echo", "/a/b/echo"])
async def test_raw_websocket_echoes(front: Haproxy, prefix: str) -> None:
    async with open_websocket(front.port, prefix + "/websocket") as websocket:
        await websocket.send_str("one")
        assert await websocket.receive_str() == "one"
        await websocket.send_bytes(b"\0\xff")
        assert await websocket.receive_bytes() == b"\0\xff"


@pytest.mark.parametrize(
    ("path", "text"), [("", b"Welcome to SockJS!\n"), ("/info", b"entropy"), ("/iframe.html", b"<")]
)
async def test_pages_are_served(front: Haproxy, path: str, text: bytes) -> None:
    reply = await fetch(front.port, "/echo" + path)
    assert reply.status == 200
    assert text in reply.body


# Stickiness.


async def test_requests_of_a_session_reach_one_process(
    front: Haproxy, nodes: list[NodeProcess], open_clients: OpenClients
) -> None:
    clients = await open_clients(front, 30)
    first = await pids_of(clients)
    assert set(first) == {node.pid for node in nodes}
    for _ in range(5):  # `Client` fails at a 404, and each of its requests has its own connection
        assert await pids_of(clients) == first


async def test_websockets_go_where_the_fewest_are(front: Haproxy, nodes: list[NodeProcess]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        pids = []
        for _ in range(10):
            websocket = await stack.enter_async_context(
                open_websocket(front.port, "/echo/websocket")
            )
            await websocket.send_str("who")
            pids.append((await websocket.receive_json())["pid"])
    assert sorted(pids) == sorted([node.pid for node in nodes] * 5)


async def test_session_that_the_table_forgot_is_found(
    own_front: Haproxy, open_clients: OpenClients
) -> None:
    clients = await open_clients(own_front, 10)
    await own_front.command("clear table sessions")
    await pids_of(clients)


async def test_drained_process_keeps_its_sessions_and_gets_no_new_ones(
    own_front: Haproxy, own_nodes: list[NodeProcess], open_clients: OpenClients
) -> None:
    clients = await open_clients(own_front, 10)
    pids = await pids_of(clients)
    assert set(pids) == {node.pid for node in own_nodes}
    await own_front.command("set server sessions/one state drain")
    await own_front.until_status("one", "DRAIN")
    assert await pids_of(clients) == pids
    assert set(await pids_of(await open_clients(own_front, 10))) == {own_nodes[1].pid}


# Streaming.


@pytest.mark.parametrize("transport", STREAMS)
async def test_frames_arrive_one_by_one_and_at_once(
    front: Haproxy, transport: str, make_client: MakeClient
) -> None:
    client = make_client(front.port, transport)
    assert await client.receive() == "o"
    delays = []
    for _ in range(9):
        began = time.perf_counter()
        assert await client.ask("x") == "x"
        delays.append(time.perf_counter() - began)
    # without "option http-no-delay" each takes 200 ms
    assert sorted(delays)[4] < 0.1


async def test_stream_that_reached_its_limit_is_followed_by_the_next(
    front: Haproxy, make_client: MakeClient
) -> None:
    client = make_client(front.port, "xhr_streaming", "/short")
    assert await client.receive() == "o"
    for _ in range(5):
        assert await client.ask("x" * 5000) == "x" * 5000
        assert client.stream is not None
        assert await client.stream.chunk() == b""  # the response has ended, the connection lives
        client.request_stream()


# Who is there.


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_server_notices_a_client_that_leaves(
    front: Haproxy, nodes: list[NodeProcess], transport: str, way: str, make_client: MakeClient
) -> None:
    client = make_client(front.port, transport)
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
    later = make_client(front.port, session_id=client.session_id)
    assert await later.receive() in ("o", 'c[1002,"Connection interrupted"]')


async def test_websocket_that_is_aborted_is_noticed(
    front: Haproxy, nodes: list[NodeProcess]
) -> None:
    session_id = os.urandom(6).hex()
    async with open_websocket(front.port, f"/echo/000/{session_id}/websocket") as websocket:
        assert await websocket.receive_str() == "o"
        websocket._response.connection.transport.abort()

    async def has_closed() -> bool:
        return any([session_id in (await node.state())["closed"] for node in nodes])

    await until(has_closed)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_client_address_arrives(
    front: Haproxy, transport: str, make_client: MakeClient
) -> None:
    forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    client = make_client(front.port, transport, local_host="127.0.0.2", headers=forged)
    assert await client.receive() == "o"
    answer = await client.who()
    assert (answer["ip"], answer["scheme"]) == ("127.0.0.2", "http")


async def test_client_address_arrives_by_websocket(front: Haproxy) -> None:
    forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": "evil.example"}
    async with open_websocket(front.port, "/echo/websocket", headers=forged) as websocket:
        await websocket.send_str("who")
        assert (await websocket.receive_json())["ip"] == "127.0.0.2"


async def test_program_of_the_docs_knows_the_client_address(program: str, tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(replace(documented("python"), "port=8081", "port=0"))
    node = NodeProcess(program=script)
    try:
        front = Haproxy(program, tmp_path, [node, node])
        try:
            await front.until_status("one", "UP")
            path = "/echo/000/a/xhr"
            for frame in [b"o\n", b'a["You come from 127.0.0.2."]\n']:
                assert (await fetch(front.port, path, "", local_host="127.0.0.2")).body == frame
            assert (await fetch(node.port, path, "")).status == 400
        finally:
            front.stop()
    finally:
        node.stop()


# Time.


async def test_heartbeats_keep_connections_alive(
    program: str, nodes: list[NodeProcess], tmp_path: Path, make_client: MakeClient
) -> None:
    silence = 2.0
    front = Haproxy(program, tmp_path, nodes, SOCKJS_SILENCE=f"{silence:g}s")
    try:
        ends = time.monotonic() + 2 * silence
        await asyncio.gather(
            watch_websocket(front, "/beating/000/x/websocket", ends),
            watch_websocket(front, "/beating/websocket", ends),
            *(
                watch_heartbeats(make_client(front.port, transport, "/beating"), ends)
                for transport in TRANSPORTS
            ),
        )
    finally:
        front.stop()


async def watch_heartbeats(client: Client, ends: float) -> None:
    assert await client.receive() == "o"
    while time.monotonic() < ends:
        assert await client.receive() == "h"


async def watch_websocket(front: Haproxy, path: str, ends: float) -> None:
    """Read, which answers pings, and see whether an echo comes after `ends`."""
    async with open_websocket(front.port, path) as websocket:

        async def read() -> None:
            while not (await websocket.receive_str()).endswith('["x"]'):
                pass

        reading = asyncio.ensure_future(read())
        await asyncio.sleep(ends - time.monotonic())
        await websocket.send_str('["x"]')
        await asyncio.wait_for(reading, PATIENCE)


# Processes that end.


async def test_killed_process_is_replaced_by_the_other(
    own_front: Haproxy, own_nodes: list[NodeProcess], open_clients: OpenClients
) -> None:
    streams = await open_clients(own_front, 10, "xhr_streaming")
    pids = await pids_of(streams)
    lost = [stream for stream, pid in zip(streams, pids, strict=True) if pid == own_nodes[0].pid]
    kept = [stream for stream in streams if stream not in lost]
    assert lost
    assert kept

    own_nodes[0].stop(signal.SIGKILL)
    # refused connections go to the other process at once, health checks take the first one out
    assert set(await pids_of(await open_clients(own_front, 10))) == {own_nodes[1].pid}
    await own_front.until_status("one", "DOWN")
    clients = await open_clients(own_front, 10)
    assert set(await pids_of(clients)) == {own_nodes[1].pid}
    for stream in lost:
        assert stream.stream is not None
        assert await asyncio.wait_for(stream.stream.is_closed(), PATIENCE)

    own_nodes[0] = NodeProcess(own_nodes[0].port)
    await own_front.until_status("one", "UP")
    # sessions of the first process that started on the second one stay there: the table knows
    assert set(await pids_of(clients)) == {own_nodes[1].pid}
    assert set(await pids_of(kept)) == {own_nodes[1].pid}
    assert own_nodes[0].pid in await pids_of(await open_clients(own_front, 10))


async def test_process_that_hangs_loses_its_streams(
    own_front: Haproxy, own_nodes: list[NodeProcess], open_clients: OpenClients
) -> None:
    streams = await open_clients(own_front, 10, "xhr_streaming")
    pids = await pids_of(streams)
    os.kill(own_nodes[0].pid, signal.SIGSTOP)
    await own_front.until_status("one", "DOWN")
    for stream, pid in zip(streams, pids, strict=True):
        if pid == own_nodes[0].pid:
            assert stream.stream is not None
            assert await asyncio.wait_for(stream.stream.is_closed(), PATIENCE)
        else:
            assert await stream.ask("still here") == "still here"


async def test_process_that_is_told_to_stop_says_good_bye(
    own_front: Haproxy, own_nodes: list[NodeProcess], open_clients: OpenClients
) -> None:
    streams = await open_clients(own_front, 10, "eventsource")
    pids = await pids_of(streams)
    loop = asyncio.get_running_loop()
    stopped = loop.run_in_executor(None, own_nodes[1].stop, signal.SIGTERM)
    for stream, pid in zip(streams, pids, strict=True):
        if pid == own_nodes[1].pid:
            assert await stream.receive() == 'c[1012,"Service restart"]'
        else:
            assert await stream.ask("still here") == "still here"
    assert await stopped == 0
    assert set(await pids_of(await open_clients(own_front, 10))) == {own_nodes[0].pid}


# A browser.

USE_SOCKJS = """transport => new Promise((resolve, reject) => {
    const seen = [];
    const sock = new SockJS("/echo", null, {transports: [transport], timeout: 5000});
    sock.onopen = () => { seen.push(sock.transport); sock.send("hello \\ud83d\\ude00"); };
    sock.onmessage = event => { seen.push(event.data); sock.close(); };
    sock.onclose = event => { seen.push(event.code); resolve(seen); };
    setTimeout(() => reject(new Error("no end, but " + seen)), 8000);
})"""


@pytest.mark.browser
async def test_sockjs_client_in_a_browser(front: Haproxy) -> None:
    chromium = find_program("chromium")
    require(chromium, "chromium")
    require(SOCKJS_CLIENT.exists(), "npm's sockjs-client")
    playwright = pytest.importorskip("playwright.async_api")
    quiet = "no-sandbox disable-gpu disable-background-networking no-first-run disable-sync"
    async with playwright.async_playwright() as api:
        browser: Any = await api.chromium.launch(
            executable_path=chromium,
            args=[f"--{name}" for name in [*quiet.split(), "disable-component-update"]],
        )
        try:
            page = await browser.new_page()
            await page.goto(f"http://127.0.0.1:{front.port}/page")
            for transport in [
                "websocket",
                "xhr-streaming",
                "eventsource",
                "xhr-polling",
                "jsonp-polling",
            ]:
                seen = await page.evaluate(USE_SOCKJS, transport)
                assert seen == [transport, "hello \U0001f600", 1000]
        finally:
            await browser.close()
