"""Every transport through the real haproxy, with the configurations that the project ships."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.client import TRANSPORTS, Client, fetch, open_websocket, pids_of
from tests.integration.conftest import MakeClient, OpenClients, StartHaproxy
from tests.integration.haproxy import (
    CONFIGURATIONS,
    SERVICES,
    Haproxy,
    documented,
    files,
    replace,
    until,
)
from tests.integration.node import NodeProcess
from tests.process import PATIENCE

pytestmark = pytest.mark.haproxy

STREAMS = [name for name, dress in TRANSPORTS.items() if dress.is_stream]


@pytest.fixture(scope="module", params=["by-session", "by-relay"])
def front(
    request: pytest.FixtureRequest, program: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Haproxy]:
    """haproxy before servers that no test stops."""
    nodes = request.getfixturevalue("relaying_nodes" if request.param == "by-relay" else "nodes")
    haproxy = Haproxy(program, tmp_path_factory.mktemp("haproxy"), nodes, request.param)
    yield haproxy
    haproxy.stop()


only_by_session = pytest.mark.parametrize("front", ["by-session"], indirect=True)
only_by_relay = pytest.mark.parametrize("front", ["by-relay"], indirect=True)


@pytest.mark.parametrize("name", SERVICES)
def test_configuration_is_valid_without_warnings(program: str, name: str) -> None:
    check = subprocess.run([program, "-c", "-dW", *files(name)], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def test_configurations_differ_in_one_backend_only() -> None:
    assert {path.stem for path in CONFIGURATIONS.glob("by-*.cfg")} == set(SERVICES)
    sections = r"^(global|defaults|frontend|backend|listen)\b(.*)$"
    for path in CONFIGURATIONS.glob("by-*.cfg"):
        found = re.findall(sections, path.read_text(), re.M)
        assert found == [("backend", " sessions from processes")], path.name


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


# How a request finds its session.


async def test_requests_of_a_session_reach_one_process(
    front: Haproxy, open_clients: OpenClients
) -> None:
    clients = await open_clients(front, 30)
    first = await pids_of(clients)
    assert set(first) == {node.pid for node in front.nodes}
    for _ in range(5):  # `Client` fails at a 404, and each of its requests has its own connection
        assert await pids_of(clients) == first


@only_by_relay
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_requests_of_a_session_come_in_at_all_processes(
    front: Haproxy, make_client: MakeClient, transport: str
) -> None:
    client = make_client(front.port, transport, "/short")
    assert await client.receive() == "o"
    entries = set()
    for _ in range(12):
        assert await client.ask("x" * 40_000) == "x" * 40_000  # more than a stream is to carry
        client.close()
        await client.begin()
        entries.add(await entry_of(front, client))
    assert entries == {"one", "two", "three"}


async def entry_of(front: Haproxy, client: Client) -> str:
    """Wait until the request that receives has reached a server; tell which."""

    async def has_come() -> bool:
        return client.source in await front.entries()

    await until(has_come)
    return (await front.entries())[client.source]


@only_by_relay
async def test_clients_cannot_pretend_that_a_request_was_handed_on(
    front: Haproxy, make_client: MakeClient
) -> None:
    client = make_client(front.port, headers={"Sockjs-Relay": "relay http 192.0.2.1"})
    assert await client.receive() == "o"
    assert (await client.who())["ip"] == "127.0.0.1"


@only_by_session
async def test_websockets_go_where_the_fewest_are(front: Haproxy) -> None:
    async with contextlib.AsyncExitStack() as stack:
        pids = []
        for _ in range(12):
            websocket = await stack.enter_async_context(
                open_websocket(front.port, "/echo/websocket")
            )
            await websocket.send_str("who")
            pids.append((await websocket.receive_json())["pid"])
    assert sorted(pids) == sorted([node.pid for node in front.nodes] * 4)


async def test_session_that_the_table_forgot_is_found(
    nodes: list[NodeProcess], start_haproxy: StartHaproxy, open_clients: OpenClients
) -> None:
    front = start_haproxy(nodes)
    clients = await open_clients(front, 10)
    await front.command("clear table sessions")
    await pids_of(clients)


async def test_process_that_is_drained_by_command_keeps_its_sessions_and_gets_no_new_ones(
    nodes: list[NodeProcess], start_haproxy: StartHaproxy, open_clients: OpenClients
) -> None:
    front = start_haproxy(nodes)
    clients = await open_clients(front, 40)
    pids = await pids_of(clients)
    assert set(pids) == {node.pid for node in nodes}
    await front.command("set server sessions/one state drain")
    await front.until_status("one", "DRAIN")
    assert await pids_of(clients) == pids
    assert nodes[0].pid not in await pids_of(await open_clients(front, 20))


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
        assert await client.ask("x" * 40_000) == "x" * 40_000
        assert client.stream is not None
        assert await client.stream.chunk() == b""  # the response has ended, the connection lives
        client.request_stream()


# Who is there.


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_server_notices_a_client_that_leaves(
    front: Haproxy, transport: str, way: str, make_client: MakeClient
) -> None:
    client = make_client(front.port, transport)
    assert await client.receive() == "o"
    pid = (await client.who())["pid"]
    (node,) = [node for node in front.nodes if node.pid == pid]

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


@only_by_session
async def test_websocket_that_is_aborted_is_noticed(front: Haproxy) -> None:
    session_id = os.urandom(6).hex()
    async with open_websocket(front.port, f"/echo/000/{session_id}/websocket") as websocket:
        assert await websocket.receive_str() == "o"
        websocket._response.connection.transport.abort()

    async def has_closed() -> bool:
        return any([session_id in (await node.state())["closed"] for node in front.nodes])

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


async def test_program_of_the_docs_is_ready_and_knows_the_client_address(
    start_haproxy: StartHaproxy, tmp_path: Path
) -> None:
    script = tmp_path / "app.py"
    script.write_text(replace(documented("python"), "port=8081", "port=0"))
    node = NodeProcess(program=script)
    try:
        front = start_haproxy([node])
        await front.until_checked()
        path = "/echo/000/a/xhr"
        for frame in [b"o\n", b'a["You come from 127.0.0.2."]\n']:
            assert (await fetch(front.port, path, "", local_host="127.0.0.2")).body == frame
        assert (await fetch(node.port, path, "")).status == 400
    finally:
        node.stop()


# Time.


@pytest.mark.parametrize("configuration", ["by-session", "by-relay"])
async def test_heartbeats_keep_connections_alive(
    request: pytest.FixtureRequest,
    start_haproxy: StartHaproxy,
    make_client: MakeClient,
    configuration: str,
) -> None:
    silence = 2.0
    nodes = request.getfixturevalue("relaying_nodes" if configuration == "by-relay" else "nodes")
    front = start_haproxy(nodes, configuration, SOCKJS_SILENCE=f"{silence:g}s")
    ends = time.monotonic() + 2 * silence
    await asyncio.gather(
        watch_websocket(front, "/beating/000/x/websocket", ends),
        watch_websocket(front, "/beating/websocket", ends),
        *(
            watch_heartbeats(make_client(front.port, transport, "/beating"), ends)
            for transport in TRANSPORTS
        ),
    )


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
