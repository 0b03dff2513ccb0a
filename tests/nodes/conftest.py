"""Nodes, and the Redis in which they find each other's sessions."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.axes import Axes
from tests.brokers.conftest import (  # noqa: F401
    other_redis,
    prefix,
    proxy,
    redis_server,
    sentinel,
)
from tests.brokers.conftest import own_redis as any_redis  # noqa: F401
from tests.brokers.redis_server import RedisServer, note_known
from tests.nodes.processes import SECRET, Anywhere, Node
from tests.target import Target

RunNodes: TypeAlias = Callable[..., list[Node]]

SETTINGS = {"response_limit": 4096, "session_check_interval": 0.1}


def start(
    axes: Axes,
    count: int,
    server: RedisServer,
    folder: Path,
    settings: dict[str, Any],
    *,
    is_eager: bool = False,
    has_broker: bool = False,
    is_known: bool = True,
    **options: Any,
) -> list[Node]:
    """Start nodes, and wait until they serve; with `is_known`, as if others had run before."""
    if is_known:
        note_known(server, options.get("namespace", "sockjs:"))
    options = {"redis": server.url, "secret": SECRET, **options}
    nodes = []
    for _ in range(count):
        parts: dict[str, Any] = {"nodes": dict(options), "settings": {**SETTINGS, **settings}}
        parts["eager"] = is_eager
        if has_broker:
            parts["broker"] = server.url
        if axes.certificate is not None:
            parts["certificate"] = str(axes.certificate)
        nodes.append(Node(parts, folder, axes.client_tls))
    for node in nodes:
        node.start()
    for node in nodes:
        node.until_ready()
    return nodes


@pytest.fixture(scope="module")
def trio(
    axes: Axes,
    redis_server: RedisServer,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Node]]:
    """Three nodes that no test ends."""
    folder = tmp_path_factory.mktemp("nodes")
    nodes = start(axes, 3, redis_server, folder, {}, namespace=f"{folder.name}:", expiry=30)
    yield nodes
    for node in nodes:
        node.kill()
    for node in nodes:
        node.check()


@pytest.fixture
def run_nodes(
    axes: Axes,
    own_redis: RedisServer,
    tmp_path: Path,
) -> Iterator[RunNodes]:
    """Run nodes for the test alone: ``run_nodes(2, settings={...}, lease=1)``."""
    started: list[Node] = []

    def run(count: int, settings: Any = None, **options: Any) -> list[Node]:
        started.extend(start(axes, count, own_redis, tmp_path, settings or {}, **options))
        return started[-count:]

    yield run
    for node in started:
        node.kill()
    for node in started:
        node.check()


@pytest.fixture
def own_redis(any_redis: RedisServer) -> RedisServer:  # noqa: F811
    """A Redis for the test alone, where nodes have run before."""
    note_known(any_redis)
    return any_redis


Reach: TypeAlias = Callable[..., Any]


@pytest.fixture
async def reach() -> AsyncIterator[Reach]:
    """Make a target of one node, or of several that take turns."""
    targets: list[Target] = []

    def make(*nodes: Node, first: int = 0) -> Target:
        targets.append(
            Target(nodes[0].port, "/echo", tls=nodes[0].tls)
            if len(nodes) == 1
            else Anywhere(list(nodes), first)
        )
        return targets[-1]

    yield make
    for target in targets:
        await target.hang_up()
