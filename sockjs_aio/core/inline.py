"""The life of a session whose transport reads by itself: a WebSocket's.

Its hooks run in the transport's own task, one after the other, and the next message is not read
before the last hook has returned: back-pressure that costs nothing.  A message whose hook does not
wait costs no coroutine besides the hook's.  The hooks' context is the session's, not the task's, so
each step of them is run in it (see `Shielded`).
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
    """Runs hooks in the task that reads messages, which calls `begin` first.

    It then awaits `open`, what `step` returns for each message, and `finish`.  An `on_close` that
    is due while nobody reads runs in a task, as with other transports.
    """

    __slots__ = ("_reader", "_forgive", "_is_plain")

    def __init__(self, session: HookedSession, receive_queue_limit: int) -> None:
        super().__init__(session, receive_queue_limit)
        self._reader: asyncio.Task[Any] | None = None
        self._forgive: Callable[[], bool] | None = None
        self._is_plain = True  # whether `on_message` may be no coroutine function

    def begin(self, forgive: Callable[[], bool]) -> None:
        """Run hooks in the present task from now on; see `Shielded` for `forgive`."""
        self._reader = asyncio.current_task()
        code = getattr(self._session.connection.on_message, "__code__", None)
        self._is_plain = code is None or not code.co_flags & inspect.CO_COROUTINE
        self._forgive = forgive

    def step(self, message: str | bytes) -> Awaitable[None] | None:
        """Call `on_message`, up to where it waits: return what is to be awaited then.

        Most hooks do not wait, and then no coroutine is made besides theirs.
        """
        assert self._forgive is not None, "begin comes first"
        self.is_running = True
        coroutine: Coroutine[Any, Any, Any] | None = None
        try:
            hook = self._session.connection.on_message
            if self._is_plain:
                coroutine, awaited = self.context.run(_started, "on_message", hook, message)
            else:  # micro-optimisation: none of its code runs before it is stepped
                coroutine = hook(message)
                awaited = self.context.run(coroutine.send, None)
        except StopIteration:  # it did not have to wait
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
        """Have `on_close` called, or wait for it if it is being called; read no more."""
        await super().finish()
        self._reader = self._forgive = None

    def is_forgiven(self) -> bool:
        """Tell whether the cancellation that has come only says that the client has gone."""
        if self.is_cancelled or self._forgive is None:
            return False
        # `on_close` may run in a task of its own, which the loss does not cancel
        return asyncio.current_task() is self._reader and self._forgive()

    def _is_on_its_own(self) -> bool:
        """Tell whether no reader comes to `finish`.

        One does if it is what runs now, or is not told to drop messages: its connection has ended
        then, and it handles the rest.
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
        if self._forgive is None:  # in a task that has the context
            return await super()._begin(name, hook, *arguments)
        context = self.context
        try:
            coroutine, awaited = context.run(_started, name, hook, *arguments)
        except StopIteration as finished:  # it did not have to wait
            return finished.value
        return await Shielded(context, coroutine, awaited, self._forgive_hook)

    def _forgive_hook(self) -> bool:
        is_forgiven = self.is_forgiven()
        if is_forgiven:
            self._session.peer_failed(LOST)
        return is_forgiven


class InlineSession(Session):
    """A session that lives as long as the connection that its transport reads."""

    __slots__ = ()

    HOOKS: ClassVar[type[Hooks]] = InlineHooks

    hooks: InlineHooks

    async def live(
        self, writer: FrameWriter, read: Callable[[], Awaitable[End]], forgive: Callable[[], bool]
    ) -> None:
        """Call the hooks, in the present task, from `on_open` until `on_close` has returned.

        Args:
            writer: Is attached, and begins now to take frames.
            read: Has the hooks called for what comes until the connection ends; returns how it did.
            forgive: Tells that a cancellation only means a lost client; see `Shielded`.
        """
        self.hooks.begin(forgive)
        self.flush()
        end = LOST
        try:
            await self.hooks.open()
            end = await read()
        except asyncio.CancelledError:
            writer.abort()  # the client has gone already, or the server wants to end
        finally:
            self.peer_failed(end)
            await self.hooks.finish()


def _started(
    name: str, hook: Callable[..., Any], *arguments: Any
) -> tuple[Coroutine[Any, Any, Any], Any]:
    """Call a hook, up to where it waits for the first time, and for what.

    Raises:
        StopIteration: If it did not have to wait.
    """
    try:
        coroutine = checked_hook(name, hook(*arguments))
    except StopIteration as error:  # of a plain function; as if a coroutine had raised it
        raise RuntimeError(f"{name} raised StopIteration") from error
    return coroutine, coroutine.send(None)
