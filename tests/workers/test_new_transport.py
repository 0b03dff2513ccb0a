"""A transport is one row of a table and one coroutine: all else follows from these."""

import pytest
from aiohttp import web
from multidict import CIMultiDict

from sockjs_aio import Settings, SettingsError
from sockjs_aio.protocol.transports import TRANSPORTS, Transport
from sockjs_aio.server.service import Service
from sockjs_aio.server.streaming import stream
from sockjs_aio.server.urls import ANSWERS
from tests.clients import XhrStreaming
from tests.workers.conftest import RunTeam
from tests.workers.test_forward import Said
from tests.workers.test_relay import open_elsewhere
from tests.workers.test_relay_ends import kill

LINES = Transport(
    "lines", "GET", "lines", is_linkable=True, tells_origin=False, dress=lambda f: b"LINE %b\n" % f
)

# connections that were handed over end with their process
of_relay = pytest.mark.not_over("handing-over")


async def lines(service: Service, request: web.Request) -> web.StreamResponse:
    return await stream(
        service, request, "lines", lambda _: (CIMultiDict({"Content-Type": "text/plain"}), b"\n")
    )


class Lines(XhrStreaming):
    name = "lines"
    prelude = rb"\n"
    pattern = rb"(?s)LINE (.*)\n"

    def _request(self) -> tuple[str, str]:
        return "GET", "/lines"


@pytest.fixture(autouse=True)
def new_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSPORTS, "lines", LINES)
    monkeypatch.setitem(ANSWERS, "lines", lines)


async def test_it_is_served_and_relayed(team: RunTeam) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, Lines)
    await client.send("a")
    assert await client.messages(1) == ["a"]


@of_relay
async def test_its_clients_are_told_when_their_process_is_lost(team: RunTeam) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, Lines)
    kill(workers.owner(client.path))
    assert await client.frame() == b'c[1002,"Connection interrupted"]'


async def test_who_comes_later_is_told_so_too(team: RunTeam) -> None:
    (served,) = await team(1)
    served.locator.placement = Said(is_lost=True)
    reply = await served.request("GET", "/0/a/lines")
    assert reply.body == b'\nLINE c[1002,"Connection interrupted"]\n'


async def test_it_can_be_disabled_by_its_name(team: RunTeam) -> None:
    (served,) = await team(1, settings={"disabled_transports": ["lines"]})
    reply = await served.request("GET", "/0/a/lines")
    assert (reply.status, reply.body) == (404, b"This transport is disabled.\n")
    with pytest.raises(SettingsError, match="not allowed: 'limes'"):
        Settings(disabled_transports=["limes"])


async def test_what_tells_no_origin_is_off_where_origins_are_restricted(team: RunTeam) -> None:
    settings = {"origins": ["https://example.com"]}
    (served,) = await team(1, settings=settings)
    assert (await served.request("GET", "/0/a/lines")).status == 404


async def test_a_link_on_any_page_opens_no_session(team: RunTeam) -> None:
    settings = {"origins": ["https://example.com"], "allow_jsonp_and_frames": True}
    (served,) = await team(1, settings=settings)
    assert (await served.request("GET", "/0/a/lines")).status == 403
    assert served.router.session_count == 0
