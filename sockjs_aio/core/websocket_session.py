"""The life of a session whose connection brings messages itself: a WebSocket's.

Its hooks start where their bytes come in, one after the other.  The next message is not looked at
before the last hook has returned, so back-pressure costs nothing.  A hook that does not wait needs
no coroutine besides its own, and no turn of the event loop; see `core.hook_task` for one that does.
"""

import asyncio
from typing import Protocol

from sockjs_aio.core.hook_task import HookTask
from sockjs_aio.core.hooked_session import HookedSession
from sockjs_aio.core.hooks import Hooks
from sockjs_aio.core.session import Session


class Resumable(Protocol):
    """A connection whose session's hooks may wait."""

    def process(self) -> None:
        """Go on: no hook waits now."""


class InlineHooks(Hooks):
    """The hooks of a session whose connection calls them, after `begin`."""

    __slots__ = ("_caller",)

    def __init__(self, session: HookedSession) -> None:
        super().__init__(session)
        self._caller: Resumable | None = None

    def begin(self, caller: Resumable) -> None:
        """Have `caller` go on in a turn of its own when a hook that waited has returned, and when
        the session has closed.
        """
        self._caller = caller  # not a method of it, which would take 64 bytes more

    def take(self, worker: HookTask) -> None:
        """Run the next hook in the name of `worker`, which has nothing to run."""
        self._worker = worker

    def break_cycles(self) -> None:
        """Forget the session and its connection."""
        super().break_cycles()
        self._caller = None

    def _resume_soon(self) -> None:
        if self._caller is not None:
            asyncio.get_running_loop().call_soon(self._caller.process)


class InlineSession(Session):
    """A session that lives as long as its WebSocket's TCP connection."""

    __slots__ = ()

    hooks: InlineHooks

    def _make_hooks(self) -> InlineHooks:
        return InlineHooks(self)
