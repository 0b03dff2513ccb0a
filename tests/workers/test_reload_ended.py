"""A reload does not make workers forget which sessions have ended."""

import asyncio
import signal

import pytest

from tests.workers.commanding import PATIENCE
from tests.workers.conftest import RunCommand

pytestmark = pytest.mark.timeout(3 * PATIENCE)

LOST = b'c[1002,"Connection interrupted"]'
EXPIRED = b'c[1002,"Session expired"]'
RESTART = b'c[1012,"Service restart"]'
PATHS = [f"/0/gone{number}" for number in range(6)]


async def test_sessions_that_have_ended_are_not_opened_again_after_reloads(
    command: RunCommand,
) -> None:
    served = await command(workers=2, settings={"disconnect_delay": 0.3})
    for path in PATHS:
        assert await served.poll(path) == b"o"
    await served.until_said(r"closed \(timeout", len(PATHS))
    for count in (1, 2):
        served.process.send_signal(signal.SIGHUP)
        while served.said.count("all workers are new") < count:
            for path in PATHS:
                reply = await served.request("POST", path + "/xhr", b"")
                # a worker that ends while it relays breaks the connection
                assert reply.body in (EXPIRED + b"\n", LOST + b"\n"), reply
                assert await served.post(path, '["buy"]') == 404
            await asyncio.sleep(0.02)  # the workers that start have to compute
    for path in PATHS:
        assert await served.poll(path) == EXPIRED
    assert await served.stop() == 0
    assert not served.has_failed, served.said


async def test_clients_that_a_reload_did_not_reach_are_told_of_it_afterwards(
    command: RunCommand,
) -> None:
    served = await command("--drain-limit", "0.5", workers=2, settings={"disconnect_delay": 60})
    for path in PATHS:
        assert await served.poll(path) == b"o"
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("all workers are new")
    for path in PATHS:
        assert await served.poll(path) == RESTART
        assert await served.post(path, '["buy"]') == 404
    assert await served.stop() == 0
    assert not served.has_failed, served.said
