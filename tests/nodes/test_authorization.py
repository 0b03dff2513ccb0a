"""An authorization that ends, and sessions that are closed with their channel, on three nodes."""

from typing import Any

import pytest

from tests.clients import EventSource, RawWebSocket, WebSocket, XhrStreaming
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import ALL, Node, ScatteredJsonp, ScatteredXhr

pytestmark = pytest.mark.redis

EXPIRED = b'c[4401,"Authorization expired"]'
REPLACED = b'c[4002,"Signed in elsewhere"]'


async def test_sessions_end_with_their_grants_wherever_their_requests_come_in(
    trio: list[Node], reach: Reach
) -> None:
    limited: list[Any] = []
    extended: list[Any] = []
    for number, transport in enumerate(ALL):
        target = reach(*trio, first=number % 3)
        limited.append(await transport.open(target, query="seconds=4"))
        client = await transport.open(target, query="seconds=4")
        await client.send("extend 3600")
        assert await client.messages(1) == ["extended"]
        extended.append(client)
    for client in limited:
        assert await client.frame() == EXPIRED, client.name
    for client in extended:
        await client.send("still here")
        assert await client.messages(1) == ["still here"]
        await client.send("extend 0.1")
        assert await client.messages(1) == ["extended"]
        assert await client.frame() == EXPIRED, client.name
    for node in trio:
        assert (await node.stats())["relayed"] > 0, "no node had all requests of its sessions"


async def test_the_newest_session_of_a_user_replaces_those_before(
    run_nodes: RunNodes, reach: Reach
) -> None:
    nodes = run_nodes(3, has_broker=True)
    kinds = [WebSocket, ScatteredXhr, XhrStreaming, RawWebSocket, ScatteredJsonp, EventSource]
    before: Any = None
    for number, kind in enumerate([*kinds, *kinds]):
        newest = await kind.open(reach(*nodes, first=number % 3))
        await newest.send("replace user:ann")
        assert await newest.messages(1) == ["alone"]
        if before is not None:
            assert await before.frame() == REPLACED, before.name
        before = newest
    await newest.send("still here")
    assert await newest.messages(1) == ["still here"]
