"""Finds out whether a process that does not answer a send can be reached at all.

A send may wait for room in the inbox for any time, so a late answer alone means nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable

from sockjs_aio.cluster.relay.peers import ExhaustedError, OwnerLostError


class SendWatch:
    """Asks the other process something, again and again, while it has not answered a send.

    Args:
        interval: Seconds before each question.
        ask: Asks; raises an `OwnerLostError` if no answer comes in a few seconds.
        give_up: Called if no answer comes.
    """

    def __init__(
        self,
        interval: float,
        ask: Callable[[], Awaitable[object]],
        give_up: Callable[[], object],
    ) -> None:
        self._interval = interval
        self._ask = ask
        self._give_up = give_up
        self._asking: asyncio.Task[None] | None = None
        # most sends are answered at once, so they get no task
        self._timer = asyncio.get_running_loop().call_later(interval, self._begin)

    def stop(self) -> None:
        """The send was answered, or is over."""
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _begin(self) -> None:
        self._asking = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self._ask()
            except ExhaustedError:
                pass  # this process has no room for a question: that says nothing of the other one
            except OwnerLostError:
                self._give_up()
                return
            await asyncio.sleep(self._interval)
