"""Several channels over one session, with synchronous hooks: the twin of `sockjs_aio.multiplex`."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from sockjs_aio import PreparedMessage
from sockjs_aio.multiplex import escaped
from sockjs_aio.tornado import proto
from sockjs_aio.tornado.conn import SockJSConnection
from sockjs_aio.tornado.session import (
    CLOSED,
    GO_AWAY,
    BaseSession,
    ConnectionInfo,
    MakeConnection,
    finish,
)
from sockjs_aio.tornado.transports.base import BaseTransportMixin

logger = logging.getLogger("sockjs_aio")

T = TypeVar("T")


class MultiplexConnection(SockJSConnection):
    """Carries channels: ``MultiplexConnection.get(ann=AnnConnection, bob=BobConnection)``.

    Each channel has an ordinary `SockJSConnection`.  A hook or a constructor that raises is
    logged and closes its channel and no other.  Unknown channels and malformed messages are
    ignored.
    """

    channels: ClassVar[dict[str, MakeConnection]] = {}

    @classmethod
    def get(cls, **channels: MakeConnection) -> type["MultiplexConnection"]:
        """Make the connection class for a service with these channels.

        Raises:
            ValueError: If a name has a comma.
        """
        if any("," in name for name in channels):
            raise ValueError("the name of a channel cannot have a comma")
        # websocket-multiplex's client escapes names; others may send them as they are
        known = {**channels, **{escaped(name): make for name, make in channels.items()}}
        return type(cls.__name__, (cls,), {"channels": known})

    def on_open(self, info: ConnectionInfo) -> Any:
        """Begin without channels."""
        self.endpoints: dict[str, ChannelSession] = {}
        self.closings: dict[str, asyncio.Task[None]] = {}

    def on_message(self, message: str) -> Any:
        """Do what one message of the client says."""
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
        """Close the channels."""
        endpoints = list(self.endpoints.values())
        for endpoint in endpoints:
            endpoint.leave()
        return self._finish_closings() if endpoints or self.closings else None

    async def _finish_closings(self) -> None:
        await asyncio.gather(*self.closings.values())

    async def _resubscribe(self, name: str, closing: asyncio.Task[None]) -> None:
        """Subscribe once the `on_close` of the channel before has returned."""
        await asyncio.wait([closing])
        if not self.is_closed:
            await finish(self._subscribe(name))

    def _subscribe(self, name: str) -> Any:
        try:
            endpoint = ChannelSession(self.channels[name], self, name)
        except Exception:
            logger.exception(
                "session %s: the connection of channel %s could not be made", self.session, name
            )
            self.send(f"uns,{name}")
            return None
        if CLOSED in (endpoint.state, self.session.state):  # by the constructor
            return None
        self.endpoints[name] = endpoint
        endpoint.set_handler(_Handler(self.session.conn_info))
        return self._guard(endpoint, endpoint.verify_state, may_refuse=True)

    def _leave(self, endpoint: "ChannelSession") -> Any:
        endpoint.leave()
        return endpoint.closing

    def _guard(self, endpoint: "ChannelSession", call: Any, may_refuse: bool = False) -> Any:
        """Call a hook; if it fails, or refuses by returning False, close its channel."""
        endpoint.is_in_hook = True
        result = None
        try:
            result = call()
        except Exception:
            self._fail(endpoint)
        if inspect.isawaitable(result):
            return self._finish(endpoint, result, may_refuse)
        if may_refuse and result is False:
            endpoint.close()
        endpoint.hook_returned()
        return endpoint.closing

    async def _finish(self, endpoint: "ChannelSession", result: Any, may_refuse: bool) -> None:
        try:
            if await result is False and may_refuse:
                endpoint.close()
        except Exception:
            self._fail(endpoint)
        finally:
            endpoint.hook_returned()
        if endpoint.closing is not None:
            await endpoint.closing

    def _fail(self, endpoint: "ChannelSession") -> None:
        logger.exception("session %s: a hook of channel %s failed", self.session, endpoint.name)
        endpoint.close()


class ChannelSession(BaseSession):
    """What a channel's connection has as its `session`."""

    def __init__(self, conn: MakeConnection, carrier: MultiplexConnection, name: str) -> None:
        self.carrier = carrier
        self.name = name
        self.is_in_hook = False
        self.closing: asyncio.Task[None] | None = None
        self.session_id = carrier.session.session_id
        super().__init__(conn, carrier.session.server)

    def send_message(self, msg: Any, stats: bool = True, binary: bool = False) -> None:
        """Send text, `bytes` of UTF-8, or the JSON text of any other value."""
        if isinstance(msg, bytes):
            msg = msg.decode()
        elif not isinstance(msg, str):
            msg = proto.json_encode(msg)
        if not self.is_closed:
            self.carrier.send(f"msg,{self.name},{msg}")

    @property
    def is_shared(self) -> bool:
        """Whether neither this class nor the carrier's sends in a way of its own."""
        is_ours = type(self) is ChannelSession and type(self.carrier).send is SockJSConnection.send
        return is_ours and self.carrier.session.is_shared

    def send_prepared(self, message: PreparedMessage) -> None:
        """Send a message that was encoded for many sessions."""
        if not self.is_closed:
            self.carrier.session.send_prepared(message.behind(f"msg,{self.name},"))

    def send_jsonified(self, msg: str, stats: bool = True) -> None:
        """Send JSON text."""
        self.send_message(msg, stats)

    def close(self, code: int = GO_AWAY[0], message: str = GO_AWAY[1]) -> None:
        """Close the channel: the client gets ``uns,CHANNEL``."""
        if self.state != CLOSED:
            self.carrier.send(f"uns,{self.name}")
            self.leave(code, message)

    def leave(self, code: int = GO_AWAY[0], message: str = GO_AWAY[1]) -> None:
        """Close the channel without a word."""
        self.carrier.endpoints.pop(self.name, None)
        super().close(code, message)
        if not self.is_in_hook:
            self._finish_closing()

    def _in_context(self, function: Callable[[], T]) -> T:
        return self.carrier.session._in_context(function)

    def hook_returned(self) -> None:
        """Go on with what an `on_close` that was called meanwhile has returned."""
        self.is_in_hook = False
        self._finish_closing()

    def _finish_closing(self) -> None:
        awaitable, self._closing = self._closing, None
        if inspect.isawaitable(awaitable):
            # a task, as whoever closes a channel need not be one of its hooks, or await anything
            create_task = asyncio.get_running_loop().create_task
            self.closing = self._in_context(lambda: create_task(self._await(awaitable)))
            self.carrier.closings[self.name] = self.closing
            self.closing.add_done_callback(lambda _: self.carrier.closings.pop(self.name, None))

    async def _await(self, awaitable: Any) -> None:
        try:
            await awaitable
        except Exception:
            logger.exception("session %s: on_close of channel %s failed", self, self.name)


class _Handler(BaseTransportMixin):
    name = "multiplex"

    def __init__(self, conn_info: ConnectionInfo | None) -> None:
        self._conn_info = conn_info

    def get_conn_info(self) -> ConnectionInfo:
        assert self._conn_info is not None, "the carrier is open"
        return self._conn_info
