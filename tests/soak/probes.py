"""One undisturbed client on each transport, which measures how long an echo takes."""

import asyncio
import time

import async_timeout

from tests.soak.link import GONE, Gone, Link
from tests.soak.numbering import text

INTERVAL = 0.1
"""Seconds between an echo and the next message."""

PATIENCE = 10.0
"""Seconds after which an echo is taken to never come."""


class Probe:
    """A client that sends one message, waits for its echo, and so on.

    ``samples`` has the time at which each message was sent, and the seconds until its echo.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.samples: list[tuple[float, float]] = []
        self.faults: list[str] = []
        self._expected = ""
        self._echo: asyncio.Future[float]
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.link.close()

    async def _run(self) -> None:
        reader: asyncio.Future[None] | None = None
        number = 0
        try:
            await self.link.open()
            reader = asyncio.ensure_future(self._read())
            while True:
                await self._measure(text("e", number))
                number += 1
                await asyncio.sleep(INTERVAL)
        except (*GONE, Gone, asyncio.TimeoutError, AssertionError) as error:
            self.faults.append(f"the probe of {self.link.name} has ended: {error!r}")
        finally:
            if reader is not None:
                reader.cancel()

    async def _measure(self, message: str) -> None:
        self._expected, self._echo = message, asyncio.get_running_loop().create_future()
        start = time.monotonic()
        async with async_timeout.timeout(PATIENCE):
            await self.link.send([message])
            end = await self._echo
        self.samples.append((start, end - start))

    async def _read(self) -> None:
        while (event := await self.link.receive()) is not None:
            if event[0] == "a" and self._expected in event[1] and not self._echo.done():
                self._echo.set_result(time.monotonic())
