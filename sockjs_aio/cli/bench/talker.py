"""One session of a benchmark: keeps messages on their way, and checks what comes back."""

import asyncio
import contextlib
import time

import async_timeout

from sockjs_aio.cli.bench.tally import Numbers
from sockjs_aio.client import ClientSocket


class Talker:
    """Talks over one connection.

    Args:
        socket: The connection.
        numbers: The messages.
        in_flight: How many messages may be on their way.
        stop: Set when it is enough.
    """

    def __init__(
        self, socket: ClientSocket, numbers: Numbers, in_flight: int, stop: asyncio.Event
    ) -> None:
        self._socket = socket
        self._numbers = numbers
        self._slots = asyncio.Semaphore(in_flight)
        self._stop = stop

    async def talk(self, patience: float) -> None:
        """Talk until `stop` is set; then wait `patience` seconds for what is on its way.

        Raises:
            ConnectionClosedError: If the connection ends before.
        """
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._receive())
        tasks = {sending, receiving, asyncio.create_task(self._stop.wait())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                return receiving.result()
            self._slots.release()  # the sender notices that it is over
            with contextlib.suppress(asyncio.TimeoutError):
                async with async_timeout.timeout(patience):
                    await sending
                    if self._numbers.outstanding:
                        await receiving
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        while await self._slots.acquire() and not self._stop.is_set():
            await self._socket.send(self._numbers.next(time.perf_counter()))

    async def _receive(self) -> None:
        while not self._stop.is_set() or self._numbers.outstanding:
            if self._numbers.came(await self._socket.receive(), time.perf_counter()):
                self._slots.release()
