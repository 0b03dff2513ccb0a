"""Several channels over one session: `sockjs_aio.multiplex`, but with synchronous hooks."""

import asyncio
import contextvars
import inspect
import logging
import types
from collections.abc import Coroutine, Generator
from datetime import datetime
from typing import Any, ClassVar

from sockjs_aio import PreparedMessage, Session
from sockjs_aio.multiplex import Cancellations, escaped
from sockjs_aio.tornado import proto
from sockjs_aio.tornado.conn import SockJSConnection
from sockjs_aio.tornado.session import (
    CLOSED,
    GO_AWAY,
    BaseSession,
    ConnectionInfo,
    MakeConnection,
    finish,
    is_entered,
)
from sockjs_aio.tornado.transports.base import BaseTransportMixin

logger: logging.Logger = logging.getLogger("sockjs_aio.hooks")


class MultiplexConnection(SockJSConnection):
    """Carries channels: ``MultiplexConnection.get(ann=AnnConnection, bob=BobConnection)``.

    Each channel has an ordinary `SockJSConnection`.  If a hook or a constructor raises, the error
    is logged and only its channel is closed.  Unknown channels and malformed messages are ignored.
    """

    channels: ClassVar[dict[str, MakeConnection]] = {}
    has_exited: bool = False
    """Whether an `on_close` has ended the process: no message behind it is handled."""

    @classmethod
    def get(cls, **channels: MakeConnection) -> type["MultiplexConnection"]:
        """Make the connection class for a service with these channels.

        Raises:
            ValueError: If a name contains a comma.
        """
        if any("," in name for name in channels):
            raise ValueError("the name of a channel must not contain a comma")
        # websocket-multiplex's client escapes names; other clients may not
        known = {**channels, **{escaped(name): make for name, make in channels.items()}}
        return type(cls.__name__, (cls,), {"channels": known})

    def on_open(self, info: ConnectionInfo) -> Any:
        """Start without channels; the client subscribes to them."""
        self.endpoints: dict[str, ChannelSession] = {}
        self.closings: dict[str, asyncio.Task[None]] = {}
        self.leaving: set[ChannelSession] = set()  # left inside their own hook

    def on_message(self, message: str) -> Any:
        """Handle ``sub,NAME``, ``msg,NAME,TEXT`` or ``uns,NAME`` from the client."""
        if self.has_exited:
            return None
        verb, _, rest = message.partition(",")
        name, comma, data = rest.partition(",")
        endpoint = self.endpoints.get(name)
        if verb == "sub" and endpoint is None and name in self.channels:
            closing = self.closings.get(name)
            return self._subscribe(name) if closing is None else self._resubscribe(name, closing)
        if verb == "msg" and comma and endpoint is not None:
            return self._guard(endpoint, lambda: endpoint.conn.on_message(data))
        if verb == "uns" and endpoint is not None:
            return self._leave(endpoint)
        return None

    def on_close(self) -> Any:
        """Close all channels."""
        before = Cancellations()
        endpoints = list(self.endpoints.values())
        for endpoint in endpoints:
            endpoint.leave()
        has_more = endpoints or self.closings or self.leaving
        return self._finish_closings(before) if has_more else None

    async def _finish_closings(self, before: Cancellations) -> None:
        closings = list(self.closings.values())
        try:
            await before.forget_later_ones()
            await asyncio.sleep(0)  # so that each of them begins, even if the server cancels this
        finally:
            await _all_of(closings)

    async def _resubscribe(self, name: str, closing: asyncio.Task[None]) -> None:
        """Subscribe once the `on_close` of the previous subscription has returned."""
        await asyncio.wait([closing])
        if not (self.is_closed or self.has_exited):
            await finish(self._subscribe(name))

    def _subscribe(self, name: str) -> Any:
        try:
            endpoint = ChannelSession(self.channels[name], self, name)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            logger.exception(
                "session %s: creating the connection of channel %s failed", self.session, name
            )
            self.send(f"uns,{name}")
            return None
        if CLOSED in (endpoint.state, self.session.state):  # the constructor closed it
            return None
        self.endpoints[name] = endpoint
        endpoint.set_handler(_Handler(self.session.conn_info))
        return self._guard(endpoint, endpoint.verify_state, may_refuse=True)

    def _leave(self, endpoint: "ChannelSession") -> Any:
        before = Cancellations()
        endpoint.leave()
        return self._settle(endpoint, before)

    def _guard(self, endpoint: "ChannelSession", call: Any, may_refuse: bool = False) -> Any:
        """Call a hook; if it fails, or rejects the client by returning False, close its channel."""
        before = Cancellations()
        endpoint.is_in_hook = True
        result = None
        try:
            result = endpoint._in_context(call)
        except (KeyboardInterrupt, SystemExit):
            endpoint.hook_returned()
            raise
        except BaseException as error:  # also CancelledError
            self._fail(endpoint, may_refuse, error)
        if inspect.isawaitable(result):
            return self._finish(endpoint, result, may_refuse, before)
        if may_refuse and result is False:
            endpoint.close()
        endpoint.hook_returned()
        return self._settle(endpoint, before)

    async def _finish(
        self, endpoint: "ChannelSession", result: Any, may_refuse: bool, before: Cancellations
    ) -> None:
        try:
            if await endpoint.result_of(result) is False and may_refuse:
                endpoint.close()
        except (KeyboardInterrupt, SystemExit, GeneratorExit):  # or the event loop has ended
            raise
        except BaseException as error:
            self._fail(endpoint, may_refuse, error)
        finally:
            endpoint.hook_returned()
        await finish(self._settle(endpoint, before))

    def _settle(self, endpoint: "ChannelSession", before: Cancellations) -> Any:
        """Return what the hook still has to await, unless there is nothing."""
        # if the carrier has ended, its on_close awaits this: shutdown can cancel all at once
        if endpoint.closing is None or self.is_closed:
            return None
        return self._finish_closing(endpoint.closing, before)

    async def _finish_closing(self, closing: "asyncio.Task[None]", before: Cancellations) -> None:
        await before.forget_later_ones()
        await _all_of([closing])

    def _fail(self, endpoint: "ChannelSession", is_on_open: bool, error: BaseException) -> None:
        endpoint._hook_failed("on_open" if is_on_open else "on_message", error)
        endpoint.close()


class ChannelSession(BaseSession):
    """The `session` of a channel's connection."""

    def __init__(self, conn: MakeConnection, carrier: MultiplexConnection, name: str) -> None:
        self.carrier = carrier
        self.name = name
        self.is_in_hook: bool = False
        self.closing: asyncio.Task[None] | None = None
        self.session_id: str = carrier.session.session_id
        self._hook_context = contextvars.copy_context()  # of the carrier's, whose hook runs
        self._hook_context.run(self._claim_context)
        super().__init__(lambda me: self._hook_context.run(conn, me), carrier.session.server)

    def send_message(self, msg: Any, stats: bool = True, binary: bool = False) -> None:
        """Send text, `bytes` in UTF-8, or any other value as JSON text."""
        if isinstance(msg, bytes):
            msg = msg.decode()
        elif not isinstance(msg, str):
            msg = proto.json_encode(msg)
        if not self.is_closed:
            self.carrier.send(f"msg,{self.name},{msg}")

    @property
    def is_shared(self) -> bool:
        """Whether `send_prepared` may be used: neither this class nor the carrier's overrides send.

        An overridden `send` must see every message.
        """
        is_ours = type(self) is ChannelSession and type(self.carrier).send is SockJSConnection.send
        return is_ours and self.carrier.session.is_shared

    def send_prepared(self, message: PreparedMessage) -> None:
        """Send a message that is encoded once for many sessions."""
        if not self.is_closed:
            self.carrier.session.send_prepared(message.behind(f"msg,{self.name},"))

    def send_jsonified(self, msg: str, stats: bool = True) -> None:
        """Send `msg`, which is JSON text already."""
        self.send_message(msg, stats)

    def extend(self, until: float | datetime | None) -> None:
        """Change when the carrier, with all its channels, ends: see `Session.extend`."""
        if not self.is_closed:
            self.carrier.session.extend(until)

    def close(self, code: int = GO_AWAY[0], message: str = GO_AWAY[1]) -> None:
        """Close the channel: the client gets ``uns,CHANNEL``."""
        if self.state != CLOSED:
            self.carrier.send(f"uns,{self.name}")
            self.leave(code, message)

    def leave(self, code: int = GO_AWAY[0], message: str = GO_AWAY[1]) -> None:
        """Close the channel without telling the client."""
        self.carrier.endpoints.pop(self.name, None)
        super().close(code, message)
        if self.is_in_hook:
            self.carrier.leaving.add(self)
        else:
            self._finish_closing()

    @property
    def _context(self) -> contextvars.Context:
        return self._hook_context

    async def result_of(self, result: Any) -> Any:
        """Await what a hook returned if it is awaitable, and return the result."""
        return await _run_steps(self._hook_context, finish(result))

    def hook_returned(self) -> None:
        """Finish an `on_close` that was called while the hook ran."""
        self.is_in_hook = False
        self.carrier.leaving.discard(self)
        self._finish_closing()

    def _finish_closing(self) -> None:
        awaitable, self._closing = self._closing, None
        if inspect.isawaitable(awaitable):
            # in a task: code outside of this channel's hooks may close it, and awaits nothing
            create_task = asyncio.get_running_loop().create_task
            self.closing = self._in_context(lambda: create_task(self._await(awaitable)))
            self.carrier.closings[self.name] = self.closing
            self.closing.add_done_callback(lambda _: self.carrier.closings.pop(self.name, None))

    async def _await(self, awaitable: Any) -> None:
        try:
            await self.result_of(awaitable)
        except (KeyboardInterrupt, SystemExit) as error:
            self._exit(error)
        except GeneratorExit:  # the event loop has ended
            raise
        except BaseException as error:
            self._hook_failed("on_close", error)

    def _exit(self, error: BaseException) -> None:
        self.carrier.has_exited = True
        super()._exit(error)

    def _hook_name(self, hook: str) -> str:
        return f"{super()._hook_name(hook)} (channel {self.name})"

    @property
    def _told_session(self) -> Session | None:
        return self.carrier.session._told_session


async def _all_of(closings: list[asyncio.Task[None]]) -> None:
    """Wait for tasks that tell by themselves how they fail; if cancelled, cancel them.

    A task counts as cancelled even if its hook has done that itself and returned.
    """
    await asyncio.gather(*closings, return_exceptions=True)


@types.coroutine
def _run_steps(
    context: contextvars.Context, coroutine: Coroutine[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    """Await `coroutine`, running each of its steps in `context`; a task would run in a copy."""
    while is_entered(context):  # an eager task (Python 3.12) starts inside the code that made it
        yield
    resume, value = coroutine.send, None
    while True:
        try:
            awaited = context.run(resume, value)
        except StopIteration as finished:
            return finished.value
        finally:
            value = None  # an exception refers to this frame: a cycle
        try:
            yield awaited
            resume = coroutine.send
        except BaseException as error:
            resume, value = coroutine.throw, error


class _Handler(BaseTransportMixin):
    name = "multiplex"

    def __init__(self, conn_info: ConnectionInfo | None) -> None:
        self._conn_info = conn_info

    def get_conn_info(self) -> ConnectionInfo:
        assert self._conn_info is not None, "an open carrier has its info"
        return self._conn_info
