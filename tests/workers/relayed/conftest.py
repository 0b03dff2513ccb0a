"""Runs tests of other directories with another worker before the server: all must be as without it.

That one relays the requests, or hands the connections over.
"""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import SockJSRouter
from sockjs_aio.cluster.relay.gateway import Gateway
from sockjs_aio.cluster.relay.peers import Peer
from sockjs_aio.cluster.relay.relay import Relay
from sockjs_aio.cluster.workers.handover import Handovers
from sockjs_aio.cluster.workers.locator import WorkerLocator
from sockjs_aio.cluster.workers.placement import HostPlacement, new_key, worker_at
from sockjs_aio.server.aiohttp_protocol import Handler, Runner
from sockjs_aio.server.service import Service
from tests.conftest import Echo, Serve, Served


class All:
    """Says that all sessions are with one process: another one, or this one."""

    def __init__(self, peer: Peer | None) -> None:
        self._peer = peer

    async def owner(self, session_id: str, service: Service, opens: bool) -> Peer | None:
        return self._peer

    async def close(self) -> None:
        if self._peer is not None:
            await self._peer.client.close()


class Last(HostPlacement):
    """The placement of a worker that no session belongs to."""

    def number(self, session_id: str) -> int:
        return 0


@pytest.fixture(params=["relayed", "handed over"])
async def serve(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """As the fixture that it takes the place of; the port is that of a worker without sessions."""
    servers: list[Served] = []
    entries: list[web.AppRunner] = []
    links: list[Handovers] = []
    numbers = itertools.count()

    async def run(
        connection: Any = Echo,
        prefix: str = "/echo",
        settings: Any = None,
        *,
        authorize: Any = None,
        app: web.Application | None = None,
        **runner_options: Any,
    ) -> Served:
        runner_options.setdefault("handler_cancellation", True)
        directory = tmp_path / str(next(numbers))
        directory.mkdir()
        key = new_key()
        placement = HostPlacement(str(directory), 1, 0, key)
        runners = []
        for of_record in (False, True):
            made = app if app is not None and not of_record else web.Application()
            router = SockJSRouter(connection, prefix, settings, authorize=authorize)
            router.attach(made)
            relay = Relay(key, spans_hosts=False)
            says = All(worker_at(placement.own_path) if of_record else None)
            Gateway(WorkerLocator(says, relay), relay).install(made)
            handovers = Handovers(Last(str(directory), 2, int(of_record), key))
            protocol = Handler if request.param == "relayed" else handovers.protocol
            runner = Runner(made, protocol, access_log=None, **runner_options)
            await runner.setup()
            runners.append((made, router, runner))
            if request.param == "handed over" and not of_record:
                handovers.open(runner)
            links.append(handovers)
        owner, record = runners
        await web.SockSite(owner[2], placement.listen(), backlog=1024).start()
        placement.publish(replaces=False)
        site = web.TCPSite(record[2], "127.0.0.1", 0)
        await site.start()
        servers.append(Served(site.port, prefix.rstrip("/"), *owner))
        entries.append(record[2])
        return servers[-1]

    yield run
    for served in servers:
        await served.hang_up()
    for handovers in links:
        handovers.close_intake()
    for runner in entries:
        await runner.cleanup()
    for served in servers:
        await served.runner.cleanup()
    for handovers in links:
        handovers.close()
