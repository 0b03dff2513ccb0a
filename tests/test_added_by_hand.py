"""Sessions end before the application is cleaned up, also if a router was not attached to it."""

import asyncio
import signal
import sys

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import MemoryBroker, SockJSRouter
from sockjs_aio.server.drain import end_sessions
from tests.conftest import Echo
from tests.ports import free_port
from tests.process import COMPLAINTS, PATIENCE, ROOT
from tests.target import Target

RUN_APP = ("-m", "tests.service_by_hand", "{name}", "{port}")
SERVE = (
    *("-m", "sockjs_aio", "serve", "tests.service_by_hand:{name}", "--port", "{port}"),
    *("--drain-notice", "0", "--drain-over", "0"),
)


ENDS = {
    "make": [b"cancelled", b"closed", b"cleaned up"],
    "make_as_in_tornado": [b"cancelled", b"closed", b"cleaned up"],
    "make_with_sub_application": [b"cancelled", b"closed", b"cleaned up"],
    "make_with_presence": [b"closed", b"cancelled", b"cleaned up"],
}


@pytest.mark.programs
@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("program", [RUN_APP, SERVE], ids=["run_app", "serve"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_hooks_end_before_the_cleanup(
    program: tuple[str, ...], name: str, number: signal.Signals
) -> None:
    target = Target(free_port(), "/echo")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *(part.format(name=name, port=target.port) for part in program)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await target.until_listening()
        assert await target.poll("/0/a") == b"o"
        assert await target.post("/0/a", '["x"]') == 204
        async with async_timeout.timeout(PATIENCE):
            assert await process.stdout.readline() == b"waits\n"
        await target.hang_up()
        process.send_signal(number)
        async with async_timeout.timeout(3 * PATIENCE):
            said, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert said.splitlines() == ENDS[name]
    assert process.returncode == 0
    assert not any(word in errors.decode() for word in COMPLAINTS), errors


async def test_broker_that_no_router_has_started_may_belong_to_another_loop() -> None:
    broker = MemoryBroker()

    async def start() -> None:
        broker.start("another user")

    await asyncio.to_thread(asyncio.run, start())
    app = web.Application()
    app.add_routes(SockJSRouter(Echo, "/echo", broker=broker).routes)
    await end_sessions(app)  # or else `on_cleanup` is not called
