"""Lets a hook end the process: once, although hooks of other sessions may ask for that too."""

import asyncio
import math
from weakref import WeakKeyDictionary

SPAN = 1.0
"""Seconds in which a shutdown has closed all sessions, so that no more messages are handled."""

_ended_at: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()


def end_process(error: BaseException) -> None:
    """Stop the event loop with `error`, which the application's code has raised.

    Call this in a callback of its own.  If such an error has stopped the loop a moment ago, the
    loop goes on for a shutdown, which another `SystemExit` would end in the middle: do nothing.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()
    if isinstance(error, SystemExit) and now - _ended_at.get(loop, -math.inf) < SPAN:
        return
    _ended_at[loop] = now
    raise error
