"""A twin of several workers that hand connections over to each other."""

import tempfile

from aiohttp import web

from sockjs_aio import SockJSRouter
from sockjs_aio.cluster.relay.gateway import Gateway
from sockjs_aio.cluster.relay.relay import Relay
from sockjs_aio.cluster.workers.handover import Handovers
from sockjs_aio.cluster.workers.locator import WorkerLocator
from sockjs_aio.cluster.workers.placement import HostPlacement
from sockjs_aio.server.aiohttp_protocol import Runner
from tests.twins import SETTINGS, Member, Twin

COUNT = 3
KEY = b"places sessions in the same way each time"

OWNERS = HostPlacement("", COUNT, 0, KEY)
OTHERS = [
    next(name for name in map("other-{}".format, range(100)) if OWNERS.number(name) == number)
    for number in range(COUNT)
]
"""An id of each worker's, of no session: all requests for it get 404."""


class HandingOver(Twin):
    """Several workers, with direct lanes or without; the client comes to the first."""

    def __init__(self, direct_requests: bool) -> None:
        super().__init__(direct_requests)
        self._direct_requests = direct_requests
        self._directory = tempfile.TemporaryDirectory()
        self.placements = [HostPlacement(self._directory.name, COUNT, n, KEY) for n in range(COUNT)]
        self.handovers = [Handovers(placement) for placement in self.placements]
        self._routers: list[SockJSRouter] = []
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        options = {"access_log": None, "logger": self.runner._kwargs["logger"]}
        for placement, handovers in zip(self.placements, self.handovers, strict=True):
            app = web.Application()
            router = SockJSRouter(Member, "/echo", SETTINGS, direct_requests=self._direct_requests)
            router.attach(app)
            relay = Relay(KEY, spans_hosts=False)
            Gateway(WorkerLocator(placement, relay), relay).install(app)
            runner = Runner(app, handovers.protocol, **options)
            await runner.setup()
            handovers.open(runner)
            if not self._runners:  # the first of its addresses is that of clients
                await web.TCPSite(runner, "127.0.0.1", 0).start()
            await web.SockSite(runner, placement.listen()).start()
            placement.publish(replaces=False)
            self._routers.append(router)
            self._runners.append(runner)
        self.runner = self._runners[0]

    async def stop(self) -> None:
        for handovers in self.handovers:
            handovers.close_intake()
        for runner in self._runners:
            await runner.cleanup()
        for handovers in self.handovers:
            handovers.close()
        self._directory.cleanup()

    @property
    def routers(self) -> list[SockJSRouter]:
        return self._routers
