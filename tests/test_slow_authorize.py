"""An `authorize` that takes longer than its clients wait; sockjs-client's patience is measured in
``docs/security.md``, and is no test's affair on a busy machine.
"""

import asyncio

import pytest
from aiohttp import web

from tests.conftest import Echo, Recorder, Serve
from tests.openers import REQUESTS, UPGRADE

PATIENCE = "sockjs_aio.server.admission.CLIENT_PATIENCE"


@pytest.mark.parametrize("handler_cancellation", [True, False])
@pytest.mark.parametrize("admits", [True, False])
@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_client_that_leaves_during_authorize_is_logged_and_gets_no_session(
    serve: Serve,
    method: str,
    path: str,
    admits: bool,
    handler_cancellation: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Noted(Recorder):
        pass

    monkeypatch.setattr(PATIENCE, 0)
    begun = asyncio.Event()

    async def authorize(request: web.Request) -> bool:
        begun.set()
        while request.transport is not None:
            await asyncio.sleep(0.001)
        return admits

    caplog.set_level("INFO", logger="sockjs_aio")
    served = await serve(Noted, authorize=authorize, handler_cancellation=handler_cancellation)
    for _ in range(2):
        wire = await served.wire()
        headers = UPGRADE if "websocket" in path else {}
        body = b"" if method == "POST" else None
        wire.send(method, served.prefix + path, body, headers=headers)
        await begun.wait()
        begun.clear()
        count = len(caplog.records)
        wire.abort()
        while len(caplog.records) == count:
            await asyncio.sleep(0.001)
    first, second = caplog.records
    assert (first.levelname, second.levelname) == ("WARNING", "INFO")
    for record in (first, second):
        text = "s; the client at 127.0.0.1 disconnected before it returned"
        assert text in record.getMessage().partition(":")[0]
    assert "`timeout` option" in first.getMessage()
    assert served.router.session_count == 0
    assert Noted.seen == []


async def test_client_that_leaves_a_quick_authorize_is_no_warning(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PATIENCE, 60)
    begun = asyncio.Event()

    async def authorize(request: web.Request) -> bool:
        begun.set()
        await asyncio.sleep(60)
        return True

    caplog.set_level("INFO", logger="sockjs_aio")
    served = await serve(Echo, authorize=authorize, handler_cancellation=True)
    wire = await served.wire()
    wire.send("POST", served.prefix + "/0/1/xhr", b"")
    await begun.wait()
    wire.abort()
    while not caplog.records:
        await asyncio.sleep(0.001)
    assert [record.levelname for record in caplog.records] == ["INFO"]
