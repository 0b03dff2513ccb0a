"""Workers: in this very process, each with a port of its own, or real ones that share a port."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import SockJSRouter, Workers
from sockjs_aio.cluster.relay.gateway import Gateway
from sockjs_aio.cluster.relay.relay import Relay
from sockjs_aio.cluster.workers.handover import Handovers
from sockjs_aio.cluster.workers.locator import WorkerLocator
from sockjs_aio.cluster.workers.placement import HostPlacement, new_key
from sockjs_aio.server.aiohttp_protocol import Handler, Runner
from tests.axes import Axes
from tests.conftest import Echo, Served, asks_for_lane
from tests.workers.commanding import Command


@dataclass
class Member(Served):
    """A worker of which one can ask things, and that can be talked to directly."""

    relay: Relay
    locator: WorkerLocator
    gateway: Gateway
    placement: HostPlacement
    handovers: Handovers

    @property
    def passed_on(self) -> int:
        """How many requests went to another worker, relayed or with their connection."""
        return self.relay.exchanges.count + self.handovers.count


class Team(list[Member]):
    """Workers of one service."""

    def elsewhere(self, path: str) -> Member:
        """Return a worker that a session does not belong to."""
        return self[(self.owner_number(path) + 1) % len(self)]

    def owner(self, path: str) -> Member:
        """Return the worker that a session belongs to."""
        return self[self.owner_number(path)]

    def owner_number(self, path: str) -> int:
        return self[0].placement.number(path.rsplit("/", 1)[1])

    @property
    def sessions(self) -> int:
        return sum(member.router.session_count for member in self)


RunTeam = Callable[..., Awaitable[Team]]


@pytest.fixture
async def team(
    tmp_path: Path, request: pytest.FixtureRequest, axes: Axes
) -> AsyncIterator[RunTeam]:
    """Run several workers: ``await team(2, Echo, settings={...})``.

    They relay requests, and hand connections over too where a test or ``--workers`` wants that.
    """
    handing_over = request.config.getoption("--workers") == "handing-over"
    members: list[Member] = []
    numbers = itertools.count()

    async def member(
        placement: HostPlacement,
        key: bytes,
        connection: Any,
        settings: Any,
        options: dict[str, Any],
    ) -> Member:
        app = web.Application(middlewares=options.pop("middlewares", ()))
        app.on_response_prepare.extend(options.pop("on_response_prepare", ()))
        checks = {name: options.pop(name, None) for name in ("authorize", "verify")}
        lane = {} if asks_for_lane(settings) else axes.router_options
        router = SockJSRouter(connection, "/echo", settings, **checks, **lane)
        router.attach(app)
        relay = Relay(key, spans_hosts=False)
        locator = WorkerLocator(placement, relay)
        gateway = Gateway(locator, relay)
        gateway.install(app)
        options.setdefault("handler_cancellation", True)
        options.setdefault("lingering_time", Workers.lingering_time)
        handovers = Handovers(placement)
        is_handing_over = options.pop("handing_over", handing_over)
        protocol = handovers.protocol if is_handing_over else Handler
        runner = Runner(app, protocol, **{"access_log": None, **options})
        await runner.setup()
        axes.prepare(runner, router)
        if is_handing_over:
            handovers.open(runner)
        await web.SockSite(runner, placement.listen()).start()
        placement.publish(replaces=False)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        served = (site.port, "/echo", app, router, runner)
        return Member(*served, relay, locator, gateway, placement, handovers)

    async def run(
        count: int,
        connection: Any = Echo,
        settings: Any = None,
        key: bytes | None = None,
        **options: Any,
    ) -> Team:
        directory = tmp_path / str(next(numbers))
        directory.mkdir()
        key = key or new_key()
        started = Team()
        for number in range(count):
            placement = HostPlacement(str(directory), count, number, key)
            started.append(await member(placement, key, connection, settings, dict(options)))
        members.extend(started)
        return started

    yield run
    for served in members:
        await served.hang_up()
        served.handovers.close_intake()
        await served.runner.cleanup()
        served.handovers.close()


RunCommand = Callable[..., Awaitable[Command]]


@pytest.fixture
async def command() -> AsyncIterator[RunCommand]:
    """Run the command: ``await command("--access-log", workers=3)``."""
    started: list[Command] = []

    async def run(*arguments: str, **options: Any) -> Command:
        started.append(await Command.start(*arguments, **options))
        return started[-1]

    yield run
    for one in started:
        await one.kill()
