"""Workers that hand connections over answer the same bytes as a single process."""

import secrets
import tempfile
from collections.abc import Iterator

import pytest
from aiohttp import web

from sockjs_aio import SockJSRouter
from sockjs_aio.cluster.relay.gateway import Gateway
from sockjs_aio.cluster.relay.relay import Relay
from sockjs_aio.cluster.workers import handover_links
from sockjs_aio.cluster.workers.handover import Handovers
from sockjs_aio.cluster.workers.locator import WorkerLocator
from sockjs_aio.cluster.workers.placement import HostPlacement
from sockjs_aio.server.aiohttp_protocol import Runner
from tests.cases import case
from tests.direct_bytes import ALL, ODD, PLAIN, POLL, SEND
from tests.lanes import note_answers
from tests.twins import ENDINGS, SETTINGS, Member, Twin, Twins, post

pytestmark = pytest.mark.skipif(
    not handover_links.is_possible(), reason="this system cannot pass sockets in messages"
)

COUNT = 3
KEY = b"places sessions in the same way each time"


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


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "no lane"])
def twins(request: pytest.FixtureRequest) -> Iterator[Twins]:
    workers = HandingOver(request.param)
    made = Twins(workers, Twin(False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "randbits", lambda _: 7)  # what /info answers
        answered = note_answers(patch)
        yield made
    assert sum(handovers.count for handovers in workers.handovers) > 0
    assert bool(answered) is request.param
    made.stop()


def test_what_comes_over_a_connection_is_answered(twins: Twins) -> None:
    for name, data in ALL.items():
        with case(name):
            twins.compare([data], "close")


@pytest.mark.parametrize("ending", ENDINGS)
def test_however_it_ends(twins: Twins, ending: str) -> None:
    for name, data in PLAIN.items():
        with case(name):
            twins.compare([data, SEND, POLL], ending)


def test_what_comes_behind_is_not_taken_for_something_else(twins: Twins) -> None:
    for name, data in ODD.items():
        with case(name):
            twins.compare([data, SEND, SEND, POLL], "close")
            twins.compare([data + SEND, SEND, POLL], "close")


OWNERS = HostPlacement("", COUNT, 0, KEY)
OTHERS = [
    next(name for name in map("other-{}".format, range(100)) if OWNERS.number(name) == number)
    for number in range(COUNT)
]
"""An id of each worker's, of no session: all requests for it get 404."""


@pytest.mark.parametrize("owner", range(COUNT))
def test_sessions_of_other_workers_come_between(twins: Twins, owner: int) -> None:
    other = SEND.replace(b"SESSION", OTHERS[owner].encode())
    for name, data in ODD.items():
        with case(name):
            twins.compare([other, data, other, SEND, POLL], "close")
            twins.compare([other + data, other + SEND + other, POLL], "close")


@pytest.mark.parametrize("part", range(4))
def test_it_may_be_cut_at_any_place(twins: Twins, part: int) -> None:
    # without bodies: a relay closes a connection on which the body of a refused request is to come
    first, second, third = (post(f"/echo/000/other-{number}/xhr_send") for number in range(3))
    data = b"".join([first, SEND, second, POLL, third])
    for cut in range(1 + part, len(data), 4):
        twins.compare([data[:cut], data[cut:]], "close")
