"""gunicorn with one of aiohttp's workers, as docs/deployment.md says."""

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import async_timeout
import pytest

from tests.clients import ALL
from tests.conftest import require
from tests.integration.client import fetch
from tests.integration.haproxy import documented, replace
from tests.integration.node import ROOT
from tests.ports import free_port
from tests.process import COMPLAINTS, PATIENCE
from tests.target import Target

RESTART = b'c[1012,"Service restart"]'


class Gunicorn(Target):
    process: asyncio.subprocess.Process

    async def end(self) -> None:
        """Have it end, and see that it does so without complaints."""
        self.process.terminate()
        async with async_timeout.timeout(PATIENCE):
            _, errors = await self.process.communicate()
        assert self.process.returncode == 0
        assert not any(complaint in errors.decode() for complaint in COMPLAINTS), errors


@pytest.fixture
async def gunicorn(tmp_path: Path) -> AsyncIterator[Gunicorn]:
    require(find_spec("gunicorn"), "gunicorn")
    code = replace(documented("python", "make_runner"), "sleep(2)", "sleep(0.1)")
    (tmp_path / "app.py").write_text(replace(code, "over=2", "over=0.2"))
    command = replace(documented("sh", "gunicorn"), "8081", str(port := free_port()))
    served = Gunicorn(port, "/echo")
    served.process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *shlex.split(command)),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},  # it writes there
        stderr=asyncio.subprocess.PIPE,
    )
    await served.until_listening()
    yield served
    await served.hang_up()
    if served.process.returncode is None:
        await served.end()


async def test_every_transport_works_and_is_told_of_the_end(gunicorn: Gunicorn) -> None:
    clients = [await kind.open(gunicorn) for kind in ALL for _ in range(3)]
    for client in clients:
        await client.send("one", "two")
        assert await client.messages(2) == ["one", "two"]
    ending = asyncio.ensure_future(gunicorn.end())
    for client in clients:
        assert await client.frame() == RESTART
        await client.leave()
    await ending


async def test_clients_between_two_polls_are_told_of_the_end(gunicorn: Gunicorn) -> None:
    sessions = [f"/0/{number}" for number in range(5)]
    for session in sessions:
        assert await gunicorn.poll(session) == b"o"
    ending = asyncio.ensure_future(gunicorn.end())
    async with async_timeout.timeout(PATIENCE):
        while (await fetch(gunicorn.port, "/readyz")).status != 404:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)  # they have been closed meanwhile
    for session in sessions:
        assert await gunicorn.poll(session) == RESTART
    await ending
