"""What is set on a client's connection for a stream that is handed on is taken back."""

import socket

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from tests import clients
from tests.workers.conftest import RunTeam

streams = pytest.mark.parametrize("kind", clients.STREAMS, ids=lambda kind: kind.name)
Kind = type[clients.Client]

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has that")


@web.middleware
async def options(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path != "/options":
        return await handler(request)
    assert request.transport is not None
    sock: socket.socket = request.transport.get_extra_info("socket")
    return web.json_response(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))


@streams
@pytest.mark.parametrize("is_pipelined", [False, True])
async def test_what_is_set_for_a_relayed_stream_does_not_outlive_it(
    team: RunTeam, kind: Kind, is_pipelined: bool
) -> None:
    workers = await team(2, settings={"response_limit": 1}, middlewares=[options])
    client = kind(workers[0], {})
    record = workers.elsewhere(client.path)
    wire = await record.wire()
    method, url = client._request()  # type: ignore[attr-defined]
    wire.send(method, record.prefix + client.path + url, b"" if method == "POST" else None)
    if is_pipelined:
        wire.send("GET", "/options")
    assert (await wire.reply()).status == 200
    if not is_pipelined:
        wire.send("GET", "/options")
    assert (await wire.reply()).body == b"0"
