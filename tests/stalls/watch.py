"""How long one callback holds up the event loop, in CPU time.

CPU time of the loop's own thread does not count what else the machine does, nor what clients do in
other threads.  `allowance` is what 20 ms of a quiet core are on this machine now.
"""

import asyncio
import contextlib
import gc
import os
import threading
import time
from asyncio import events
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sockjs_aio.protocol import json_text

LIMIT = 0.02
"""Seconds that one callback may hold up the loop, on a quiet core of the machine of `QUIET`."""

QUIET = 0.0115
"""Seconds that `_calibrate` takes on a quiet core (AMD EPYC, Python 3.11)."""


@dataclass
class Watch:
    """The longest callback so far."""

    longest: float = 0.0
    callback: str = ""


class Collections:
    """CPU time of the garbage collector's full rounds, which are there whatever clients send."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == 2:
            if phase == "start":
                self._start = time.thread_time()
            else:
                self.seconds += time.thread_time() - self._start


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """Measure the callbacks of this thread's loop, without full rounds of garbage collection."""
    watch, collections = Watch(), Collections()
    handles: Any = events.Handle
    run = handles._run
    thread = threading.get_ident()

    def measured(handle: Any) -> None:
        if threading.get_ident() != thread:
            run(handle)
            return
        start = time.thread_time() - collections.seconds
        run(handle)
        seconds = time.thread_time() - collections.seconds - start
        if seconds > watch.longest:
            watch.longest, watch.callback = seconds, repr(handle)

    gc.collect()
    gc.callbacks.append(collections)
    handles._run = measured
    try:
        yield watch
    finally:
        handles._run = run
        gc.callbacks.remove(collections)


SLACK = 1.5
"""What caches, memory and neighbours may add, which calibration does not show."""

LEAST_ALLOWANCE = LIMIT * SLACK


def allowance() -> float:
    """Return what `LIMIT` is now: another machine, a debugger or a tracer make all of it longer."""
    return LEAST_ALLOWANCE * max(min(_calibrate() for _ in range(3)) / QUIET, 1)


def _calibrate() -> float:
    start = time.thread_time()
    for number in range(20_000):
        json_text.quote(f"Grüße {number}")
    return time.thread_time() - start


def is_own_loop() -> bool:
    """Tell whether callbacks are run by asyncio in Python, and so can be measured."""
    return isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop) and os.name == "posix"
