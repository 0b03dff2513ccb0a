"""Services with the API of sockjs-tornado or aio-libs' sockjs on nodes: as any other service."""

import pytest

from tests.adapters import adapters
from tests.clients import Client
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import ALL, HTTP, Node

Kind = type[Client]

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
@pytest.mark.parametrize("kind", HTTP, ids=lambda kind: kind.name)
async def test_clients_at_another_node_are_told_when_their_node_drains(
    run_nodes: RunNodes, reach: Reach, prefix: str, kind: Kind
) -> None:
    owner, other = run_nodes(2)
    there, elsewhere = reach(owner), reach(other)
    there.prefix = elsewhere.prefix = prefix
    client = kind(there, {})
    assert await there.poll(client.path) == b"o"
    client.served = elsewhere
    await client.connect()
    await client.send("a")
    assert await client.messages(1) == ["a"]
    assert (await other.stats())["relayed"] >= 2
    await owner.end()
    assert await client.frame() == b'c[1012,"Service restart"]'
    await client.leave()
