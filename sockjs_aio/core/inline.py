"""The life of a session whose transport reads messages itself: a WebSocket's.

Its hooks run in the transport's own task, one after the other.  The next message is not read before
the last hook has returned, so back-pressure costs nothing.  If a hook does not wait, its message
needs no coroutine besides the hook's own.  The hooks must run in the session's context, which is
not the task's, so each step of a hook is run in that context (see `Shielded`).
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar

from sockjs_aio.core.frame_writer import FrameWriter
from sockjs_aio.core.hooks import HookedSession, Hooks, checked_hook
from sockjs_aio.core.session import Session
from sockjs_aio.core.shield import Shielded
from sockjs_aio.protocol.ends import LOST, End


class InlineHooks(Hooks):
    """Runs hooks in the task that reads messages.

    That task calls `begin` first.  Then it awaits `open`, what `step` returns for each message, and
    `finish`.  If `on_close` is due while no task reads, it runs in a task of its own, as with other
    transports.
    """

    __slots__ = ("_reader", "_forgive", "_is_plain")

    def __init__(self, session: HookedSession, receive_queue_limit: int) -> None:
        super().__init__(session, receive_queue_limit)
        self._reader: asyncio.Task[Any] | None = None
        self._forgive: Callable[[], bool] | None = None
        self._is_plain = True  # unless `on_message` is known to be a coroutine function

    def begin(self, forgive: Callable[[], bool]) -> None:
        """Run hooks in the current task from now on; see `Shielded` for `forgive`."""
        self._reader = asyncio.current_task()
        code = getattr(self._session.connection.on_message, "__code__", None)
        self._is_plain = code is None or not code.co_flags & inspect.CO_COROUTINE
        self._forgive = forgive

    def step(self, message: str | bytes) -> Awaitable[None] | None:
        """Call `on_message` and run it until it waits; return the rest to await, or None.

        Most hooks do not wait, and then no coroutine is made besides the hook's own.
        """
        assert self._forgive is not None, "call begin first"
        self.is_running = True
        coroutine: Coroutine[Any, Any, Any] | None = None
        try:
            hook = self._session.connection.on_message
            if self._is_plain:
                coroutine, awaited = self.context.run(_started, "on_message", hook, message)
            else:  # micro-optimisation: creating a coroutine runs none of its code
                coroutine = hook(message)
                awaited = self.context.run(coroutine.send, None)
        except StopIteration:  # it returned without waiting
            coroutine = None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            coroutine = None
            self._fail("on_message", error)
        if coroutine is not None:
            rest = Shielded(self.context, coroutine, awaited, self._forgive_hook)
            return self._guard("on_message", rest)
        self.is_running = self.is_cancelled = False
        return None

    async def finish(self) -> None:
        """Have `on_close` called, or wait for it if it is running.  Do not read after this."""
        await super().finish()
        self._reader = self._forgive = None

    def is_forgiven(self) -> bool:
        """Tell whether a cancellation only means that the client has disconnected."""
        if self.is_cancelled or self._forgive is None:
            return False
        # `on_close` may run in a task of its own, which a lost connection does not cancel
        return asyncio.current_task() is self._reader and self._forgive()

    def _is_on_its_own(self) -> bool:
        """Return True if no reader will call `finish`.

        A reader will if it is the current task.  It also will if messages are not to be dropped:
        then its connection has ended, and it handles the messages that are left.
        """
        if self._reader is None:
            return True
        return self.is_dropping and asyncio.current_task() is not self._reader

    def _running_task(self) -> "asyncio.Task[Any] | None":
        return self._task or self._reader

    def _keep_context(self) -> None:
        if self._forgive is None:
            super()._keep_context()

    async def _begin(self, name: str, hook: Callable[..., Any], *arguments: Any) -> Any:
        if self._forgive is None:  # this task has the session's context
            return await super()._begin(name, hook, *arguments)
        context = self.context
        try:
            coroutine, awaited = context.run(_started, name, hook, *arguments)
        except StopIteration as finished:  # it returned without waiting
            return finished.value
        return await Shielded(context, coroutine, awaited, self._forgive_hook)

    def _forgive_hook(self) -> bool:
        is_forgiven = self.is_forgiven()
        if is_forgiven:
            self._session.peer_failed(LOST)
        return is_forgiven


class InlineSession(Session):
    """A session that lives as long as its WebSocket's TCP connection."""

    __slots__ = ()

    HOOKS: ClassVar[type[Hooks]] = InlineHooks

    hooks: InlineHooks

    async def live(
        self, writer: FrameWriter, read: Callable[[], Awaitable[End]], forgive: Callable[[], bool]
    ) -> None:
        """Call the hooks in the current task, from `on_open` until `on_close` has returned.

        Args:
            writer: The attached writer, which takes frames from now on.
            read: Reads messages and calls the hooks until the connection ends; returns that end.
            forgive: Returns True if a cancellation only means a lost client; see `Shielded`.
        """
        self.hooks.begin(forgive)
        self.flush()
        end = LOST
        try:
            await self.hooks.open()
            end = await read()
        except asyncio.CancelledError:
            writer.abort()  # the client has gone, or the server is shutting down
        finally:
            self.peer_failed(end)
            await self.hooks.finish()


def _started(
    name: str, hook: Callable[..., Any], *arguments: Any
) -> tuple[Coroutine[Any, Any, Any], Any]:
    """Call a hook and run it until it first waits; return its coroutine and what that waits for.

    Raises:
        StopIteration: If it returned without waiting.
    """
    try:
        coroutine = checked_hook(name, hook(*arguments))
    except StopIteration as error:  # from a plain function; Python does the same for a coroutine
        raise RuntimeError(f"{name} raised StopIteration") from error
    return coroutine, coroutine.send(None)
