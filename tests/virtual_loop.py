"""An event loop that waits for nothing: when all are idle, its time jumps to the next timer.

Sockets work as long as both their ends are served by the loop.  ``await asyncio.sleep(0.001)`` then
means: until everything that can happen now has happened.  Threads, other processes and the kernel
keep their own time: nothing may wait for them here, and a test must not depend on what a client has
acknowledged, because acknowledgements may take the kernel 40 ms.
"""

import asyncio
import selectors
from typing import Any


class JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting it moves the clock."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a `JumpingSelector` for its clock."""

    def __init__(self) -> None:
        self._clock = JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def block(self, seconds: float) -> None:
        """Let time pass as if a callback took so long."""
        self._clock.now += seconds
