"""Services with the API of sockjs-tornado or aio-libs' sockjs on nodes: as any other service."""

from typing import Any

import pytest

from tests.adapters import PREFIXES
from tests.clients import Client
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import ALL, HTTP, Node

Kind = type[Client]

adapters = pytest.mark.parametrize("prefix", PREFIXES, ids=lambda prefix: prefix[1:])

pytestmark = pytest.mark.redis


@adapters
@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
async def test_messages_pass_in_order_whichever_nodes_the_requests_come_in_at(
    trio: list[Node], reach: Reach, prefix: str, kind: Kind
) -> None:
    target = reach(*trio)
    target.prefix = prefix
    client = await kind.open(target)
    for number in range(6):
        await client.send(f"a{number}", f"b{number}")
    expected = [f"{letter}{number}" for number in range(6) for letter in "ab"]
    assert await client.messages(12) == expected
    await client.leave()


@adapters
async def test_clients_at_another_node_are_told_when_their_node_drains(
    run_nodes: RunNodes, reach: Reach, prefix: str
) -> None:
    owner, other = run_nodes(2)
    there, elsewhere = reach(owner), reach(other)
    there.prefix = elsewhere.prefix = prefix
    members = []
    for number, kind in enumerate(HTTP, 1):
        client: Any = kind(there, {})
        assert await there.poll(client.path) == b"o", client.name
        client.served = elsewhere
        await client.connect()
        await client.send("a")
        assert await client.messages(1) == ["a"], client.name
        assert (await other.stats())["relayed"] >= 2 * number, client.name
        members.append(client)
    await owner.end()
    for client in members:
        assert await client.frame() == b'c[1012,"Service restart"]', client.name
        await client.leave()
