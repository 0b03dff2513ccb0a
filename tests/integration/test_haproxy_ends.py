"""Processes behind the real haproxy that are told to end, are killed, or hang; and who notices."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.integration.client import TRANSPORTS, Client, fetch, open_websocket, pids_of
from tests.integration.conftest import MakeClient, OpenClients, StartHaproxy
from tests.integration.haproxy import SERVICES, Haproxy, until
from tests.integration.node import NodeProcess
from tests.process import PATIENCE

pytestmark = pytest.mark.haproxy

RESTART = 'c[1012,"Service restart"]'
INTERRUPTED = 'c[1002,"Connection interrupted"]'


@pytest.fixture(params=SERVICES)
def configuration(request: pytest.FixtureRequest) -> str:
    return str(request.param)


only_by_relay = pytest.mark.parametrize("configuration", ["by-relay"], indirect=True)

MANY = 30
"""Sessions of which each of three processes gets some, though the hashes of names decide."""


@pytest.fixture
def front(own_nodes: list[NodeProcess], start_haproxy: StartHaproxy, configuration: str) -> Haproxy:
    """haproxy before servers that the test may stop, which it asks often how they are."""
    return start_haproxy(own_nodes, configuration, SOCKJS_CHECK="200ms")


@pytest.fixture
def prefix(configuration: str) -> str:
    return SERVICES[configuration]


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


def split(clients: list[Client], pids: list[int], pid: int) -> tuple[list[Client], list[Client]]:
    """Return the clients of the process `pid`, and the others; there have to be some of each."""
    of_it = [client for client, its in zip(clients, pids, strict=True) if its == pid]
    others = [client for client in clients if client not in of_it]
    assert of_it
    assert others
    return of_it, others


async def have_streams_move(clients: list[Client]) -> None:
    """Have streams reach their limit, so that they go on wherever they are led to."""
    messages = await asyncio.gather(*(client.ask("x" * 40_000) for client in clients))
    assert set(messages) == {"x" * 40_000}


# Told to end.


async def test_process_that_is_not_ready_gets_no_new_sessions(
    front: Haproxy, own_nodes: list[NodeProcess], open_clients: OpenClients, prefix: str
) -> None:
    clients = [
        *await open_clients(front, MANY, "xhr", prefix),
        *await open_clients(front, MANY, "eventsource", prefix),
    ]
    pids = await pids_of(clients)
    split(clients, pids, own_nodes[0].pid)
    own_nodes[0].announce()
    await front.until_status("one", "NOLB")
    assert await pids_of(clients) == pids
    assert own_nodes[0].pid not in await pids_of(await open_clients(front, 12, "xhr", prefix))
    for _ in range(6):
        async with open_websocket(front.port, prefix + "/websocket") as websocket:
            await websocket.send_str("who")
            assert (await websocket.receive_json())["pid"] != own_nodes[0].pid


async def test_failure_of_the_check_cuts_what_404_leaves(
    own_nodes: list[NodeProcess], start_haproxy: StartHaproxy, open_clients: OpenClients
) -> None:
    """Why `readyz` does not answer 503, as `router.health` does."""
    front = start_haproxy(own_nodes, SOCKJS_CHECK="200ms", SOCKJS_READY="/health")
    streams = await open_clients(front, MANY, "xhr_streaming")
    cut, _ = split(streams, await pids_of(streams), own_nodes[0].pid)
    own_nodes[0].announce()
    await front.until_status("one", "DOWN")
    for stream in cut:
        assert stream.stream is not None
        assert await asyncio.wait_for(stream.stream.is_closed(), PATIENCE)


async def test_sessions_of_a_process_that_ends_are_told_and_come_back_elsewhere(
    front: Haproxy,
    own_nodes: list[NodeProcess],
    open_clients: OpenClients,
    make_client: MakeClient,
    prefix: str,
) -> None:
    clients = [
        client
        for transport in TRANSPORTS
        for client in await open_clients(front, 5, transport, prefix)
    ]
    await have_streams_move(clients)
    pids = await pids_of(clients)
    told, others = split(clients, pids, own_nodes[0].pid)
    own_nodes[0].announce()
    await front.until_status("one", "NOLB")
    ended = asyncio.ensure_future(in_thread(own_nodes[0].stop, signal.SIGTERM))

    async def come_back(client: Client) -> int:
        assert await client.receive() == RESTART
        client.close()
        # the cookie, if there is one, still names the process that ends
        again = make_client(front.port, client.transport, prefix, headers=client.headers)
        assert await again.receive() == "o"
        return await again.pid()

    async def stay() -> None:
        while not ended.done():  # those that poll expire if this takes long
            await pids_of(others)

    *came_back, _ = await asyncio.gather(*map(come_back, told), stay())
    assert own_nodes[0].pid not in came_back
    assert await ended == 0
    assert set(await pids_of(others)) == {own_nodes[1].pid, own_nodes[2].pid}


async def test_session_that_a_process_refuses_is_opened_by_another(
    own_nodes: list[NodeProcess],
    start_haproxy: StartHaproxy,
    open_clients: OpenClients,
    configuration: str,
    prefix: str,
) -> None:
    front = start_haproxy(own_nodes, configuration, SOCKJS_CHECK="60s")  # it will not know
    await front.until_checked()
    clients = await open_clients(front, MANY, "xhr", prefix)
    told, _ = split(clients, await pids_of(clients), own_nodes[0].pid)
    ended = asyncio.ensure_future(in_thread(own_nodes[0].stop, signal.SIGTERM))

    async def is_draining() -> bool:
        return (await fetch(own_nodes[0].port, "/readyz")).status == 404

    await until(is_draining)
    assert own_nodes[0].pid not in await pids_of(await open_clients(front, 12, "xhr", prefix))
    for _ in range(6):
        async with open_websocket(front.port, prefix + "/websocket") as websocket:
            await websocket.send_str("who")
            assert (await websocket.receive_json())["pid"] != own_nodes[0].pid
    for client in told:
        assert await client.receive() == RESTART
    assert await ended == 0


# Killed.


async def test_killed_process_disturbs_nobody_else(
    front: Haproxy,
    own_nodes: list[NodeProcess],
    open_clients: OpenClients,
    make_client: MakeClient,
    configuration: str,
    prefix: str,
) -> None:
    streams = await open_clients(front, MANY, "xhr_streaming", prefix)
    await have_streams_move(streams)
    pids = await pids_of(streams)
    cut, told, kept = await sort(front, streams, pids)
    assert bool(told) == (configuration == "by-relay")
    kept_pids = await pids_of(kept)
    loop = asyncio.get_running_loop()
    own_nodes[0].stop(signal.SIGKILL)

    async def come_back(client: Client) -> float:
        await see_end(client, is_told=client in told)
        began = loop.time()
        again = make_client(front.port, client.transport, prefix, headers=client.headers)
        assert await again.receive() == "o"
        assert await again.ask("back") == "back"
        return loop.time() - began

    # refused connections go to another process at once, before health checks know of anything
    assert max(await asyncio.gather(*map(come_back, cut + told))) < 2
    assert await pids_of(kept) == kept_pids
    await front.until_status("one", "DOWN")
    assert own_nodes[0].pid not in await pids_of(await open_clients(front, 9, "xhr", prefix))

    own_nodes[0] = own_nodes[0].successor()
    await front.until_status("one", "UP")
    assert await pids_of(kept) == kept_pids
    # until "anywhere" and the hash's ring have their share again, others may get the first ones
    while own_nodes[0].pid not in await pids_of(await open_clients(front, 9, "xhr", prefix)):
        pass


async def begun(
    front: Haproxy, open_clients: OpenClients, transports: Iterable[str]
) -> tuple[list[Client], list[int]]:
    """Have clients of `transports` wait at the processes; return them and where their sessions are.

    Chance decides who waits where: haproxy may lead all of a transport to their own process.
    """
    clients = [
        client
        for transport in transports
        for client in await open_clients(front, MANY // 2, transport, "/short")
    ]
    await have_streams_move(clients)
    pids = await pids_of(clients)
    for client in clients:
        await client.begin()

    async def have_come() -> bool:
        waiting = [(await node.state())["waiting"] for node in front.nodes]
        return {client.session_id for client in clients} <= set().union(*waiting)

    await until(have_come)  # all the way to their sessions
    return clients, pids


@only_by_relay
async def test_clients_of_a_killed_process_are_told_by_the_others(
    front: Haproxy, own_nodes: list[NodeProcess], open_clients: OpenClients
) -> None:
    cut: list[Client] = []
    told: list[Client] = []
    while missing := TRANSPORTS.keys() - {client.transport for client in told}:
        there, elsewhere, _ = await sort(front, *await begun(front, open_clients, missing))
        cut += there
        told += elsewhere
    own_nodes[0].stop(signal.SIGKILL)
    for client in told:
        await see_end(client, is_told=True)
        assert (await client.post("x")).status == 404
    for client in cut:
        await see_end(client, is_told=False)


@only_by_relay
async def test_clients_of_a_killed_process_that_come_later_are_told_by_the_others(
    front: Haproxy, own_nodes: list[NodeProcess], open_clients: OpenClients
) -> None:
    polls = await open_clients(front, MANY, "xhr")
    streams = await open_clients(front, MANY, "xhr_streaming")
    gone, _ = split(polls, await pids_of(polls), own_nodes[0].pid)
    cut, _ = split(streams, await pids_of(streams), own_nodes[0].pid)
    own_nodes[0].stop(signal.SIGKILL)
    for client in cut:
        client.close()
    for client in [*gone[::2], *cut]:
        assert await client.receive() == INTERRUPTED
        assert (await client.post("x")).status == 404
    for client in gone[1::2]:
        assert (await client.post("x")).status == 404
        assert await client.receive() == INTERRUPTED  # and no new session


@only_by_relay
async def test_what_was_handed_on_is_not_sent_twice_when_a_process_dies(
    own_nodes: list[NodeProcess],
    start_haproxy: StartHaproxy,
    open_clients: OpenClients,
    configuration: str,
) -> None:
    front = start_haproxy(own_nodes, configuration, SOCKJS_CHECK="60s")
    await front.until_checked()
    clients = await open_clients(front, 9)
    for _ in range(3):  # each process knows where they are
        pids = await pids_of(clients)
    client = next(x for x, pid in zip(clients, pids, strict=True) if pid == own_nodes[1].pid)
    os.kill(own_nodes[1].pid, signal.SIGSTOP)
    sends = [asyncio.ensure_future(client.post(str(number))) for number in range(6)]
    while len(await front.entries()) < len(sends):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)  # they are with the owner, or on their way through the others
    own_nodes[0].stop(signal.SIGKILL)
    await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)  # haproxy has noticed
    await asyncio.sleep(0.2)
    os.kill(own_nodes[1].pid, signal.SIGCONT)
    statuses = [reply.status for reply in await asyncio.gather(*sends)]
    messages = json.loads((await client.receive())[1:])
    assert len(messages) == len(set(messages)), messages
    assert sorted(statuses) == [204, 204, 204, 204, 502, 502]


# Hangs.


@only_by_relay
async def test_process_that_hangs_for_a_while_ends_no_session_of_the_others(
    front: Haproxy, own_nodes: list[NodeProcess], open_clients: OpenClients
) -> None:
    """Their polls and streams wait there with it, and go on when it does."""
    pids: dict[int, int] = {}  # by the ids of clients
    theirs: list[Client] = []
    kept: list[Client] = []
    while missing := TRANSPORTS.keys() - {client.transport for client in theirs}:
        clients, its = await begun(front, open_clients, missing)
        pids.update(zip(map(id, clients), its, strict=True))
        waiting, _, others = await sort(front, clients, its)
        theirs += [client for client in waiting if pids[id(client)] != own_nodes[0].pid]
        kept += others
    os.kill(own_nodes[0].pid, signal.SIGSTOP)
    await front.until_status("one", "DOWN")
    assert await pids_of(kept) == [pids[id(client)] for client in kept]
    os.kill(own_nodes[0].pid, signal.SIGCONT)
    await front.until_status("one", "UP")
    assert await pids_of(theirs) == [pids[id(client)] for client in theirs]


# All at once.


async def test_clients_are_told_when_all_processes_end_at_once(
    front: Haproxy, own_nodes: list[NodeProcess], open_clients: OpenClients, prefix: str
) -> None:
    """Also those that ask when haproxy knows that no process takes new sessions."""
    clients = [
        client
        for transport in TRANSPORTS
        for client in await open_clients(front, 9, transport, prefix)
    ]
    await have_streams_move(clients)
    assert len(set(await pids_of(clients))) == 3  # and those that poll do not wait now
    for node in own_nodes:
        node.announce()
    for name in ("one", "two", "three"):
        await front.until_status(name, "NOLB")
    ended = [asyncio.ensure_future(in_thread(node.stop, signal.SIGTERM)) for node in own_nodes]
    frames = await asyncio.gather(*(client.receive() for client in clients))
    assert set(frames) == {RESTART}
    assert await asyncio.gather(*ended) == [0, 0, 0]


async def sort(
    front: Haproxy, clients: list[Client], pids: list[int]
) -> tuple[list[Client], list[Client], list[Client]]:
    """Sort clients by what becomes of them when the first process is killed.

    They wait at it and are cut off, or they are told by another one which they wait at, or they
    have nothing to do with it.
    """

    async def have_come() -> bool:
        return {client.source for client in clients} <= set(await front.entries())

    await until(have_come)
    entries = await front.entries()
    cut, told, kept = [], [], []
    for client, pid in zip(clients, pids, strict=True):
        if entries[client.source] == "one":
            cut.append(client)
        elif pid == front.nodes[0].pid:
            told.append(client)
        else:
            kept.append(client)
    assert cut
    assert kept
    return cut, told, kept


async def see_end(client: Client, *, is_told: bool) -> None:
    """See that a client is told that its session has ended, or is cut off."""
    assert client.stream is not None
    if is_told:
        assert await client.receive() == INTERRUPTED
    elif TRANSPORTS[client.transport].is_stream:
        assert await asyncio.wait_for(client.stream.is_closed(), PATIENCE)
    else:
        assert (await client.stream.reply()).status == 502


async def test_sessions_that_were_opened_meanwhile_stay_when_a_process_comes_back(
    own_nodes: list[NodeProcess], start_haproxy: StartHaproxy, open_clients: OpenClients
) -> None:
    front = start_haproxy(own_nodes, SOCKJS_CHECK="200ms")
    own_nodes[0].stop(signal.SIGKILL)
    await front.until_status("one", "DOWN")
    clients = await open_clients(front, 20)
    pids = await pids_of(clients)
    own_nodes[0] = own_nodes[0].successor()
    await front.until_status("one", "UP")
    assert await pids_of(clients) == pids  # the table knows; the hash alone would not


async def test_process_that_hangs_loses_its_streams(
    own_nodes: list[NodeProcess], start_haproxy: StartHaproxy, open_clients: OpenClients
) -> None:
    front = start_haproxy(own_nodes, SOCKJS_CHECK="200ms")
    streams = await open_clients(front, MANY, "xhr_streaming")
    lost, kept = split(streams, await pids_of(streams), own_nodes[0].pid)
    os.kill(own_nodes[0].pid, signal.SIGSTOP)
    await front.until_status("one", "DOWN")
    for stream in lost:
        assert stream.stream is not None
        assert await asyncio.wait_for(stream.stream.is_closed(), PATIENCE)
    for stream in kept:
        assert await stream.ask("still here") == "still here"
