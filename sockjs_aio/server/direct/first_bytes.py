"""What greets a connection if its first request may be a handshake that needs no aiohttp.

aiohttp makes a protocol, a parser and a task for each connection, a WebSocket's too, which needs
none of them once its handshake is answered.  So this waits for the first bytes.  If they are a
whole handshake that the lane answers, aiohttp makes nothing.  Otherwise aiohttp's protocol gets the
connection, and the bytes, as if it had been there from the beginning.
"""

import asyncio
from collections.abc import Callable
from typing import ClassVar, cast

from aiohttp import web

from sockjs_aio.core.tcp import protocol_of
from sockjs_aio.server.client_loss import ClientConnection

PATIENCE = 0.1
"""Seconds after which aiohttp gets a connection on which nothing has come: it has times for that.
"""


class FirstBytes(asyncio.Protocol):
    """The protocol of a connection until its first bytes come.

    aiohttp's server counts it as one of its connections.

    Args:
        server: aiohttp's server.
        make_handler: Makes aiohttp's protocol.
        answer: Gives the connection another protocol if it can answer the bytes, and otherwise
            returns False.
    """

    __slots__ = ("server", "transport", "_make_handler", "_answer", "_timer", "_is_ending")

    _task_handler: ClassVar[None] = None  # aiohttp's server asks each of its connections for it

    def __init__(
        self,
        server: web.Server,
        make_handler: Callable[[], asyncio.Protocol],
        answer: "Callable[[FirstBytes, bytes], bool]",
    ) -> None:
        self.server: web.Server = server
        self.transport: asyncio.Transport
        self._make_handler = make_handler
        self._answer = answer
        self._timer: asyncio.Handle
        self._is_ending = False

    # For asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first bytes."""
        self.transport = cast(asyncio.Transport, transport)
        self.server.connection_made(self, self.transport)  # type: ignore[arg-type]
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._wait_no_longer)

    def data_received(self, data: bytes) -> None:
        """Answer `data`, or let aiohttp do it."""
        if not self._is_ending:
            self._timer.cancel()
            if not self._answer(self, data):
                self._pass_on().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell aiohttp's server."""
        self._timer.cancel()
        self.server.connection_lost(self)  # type: ignore[arg-type]
        self.transport.close()  # Python 3.10 takes a TLS transport for open until then

    # For aiohttp's server.

    def close(self) -> None:
        """Answer nothing any more: the server is shutting down."""
        self._timer.cancel()
        self._is_ending = True

    async def shutdown(self, timeout: float | None = None) -> None:
        """End the connection: the server ends."""
        self.close()
        self.transport.close()

    # For those who answer.

    def give_to(self, heir: asyncio.Protocol) -> None:
        """Make `heir` the connection's protocol."""
        self.server.connection_lost(self)  # type: ignore[arg-type]
        self.transport.set_protocol(heir)

    def fail(self, error: BaseException, data: bytes) -> None:
        """Let aiohttp answer `data`, with what it makes of `error`.

        The application's code has raised that, and must not run a second time: see `raise_failure`.
        """
        failed = FailedOpening(self.transport, self._pass_on(), error)
        self.transport.set_protocol(failed)
        failed.data_received(data)

    def _wait_no_longer(self) -> None:
        # not at once: aiohttp must not hear of a loss that is under way before its task begins
        self._timer = asyncio.get_running_loop().call_soon(self._pass_on_unless_lost)

    def _pass_on_unless_lost(self) -> None:
        if protocol_of(self.transport) is not None:
            self._pass_on()

    def _pass_on(self) -> asyncio.Protocol:
        handler = self._make_handler()
        self.give_to(handler)
        handler.connection_made(self.transport)
        return cast(asyncio.Protocol, protocol_of(self.transport))


class FailedOpening(ClientConnection):
    """A connection whose handshake aiohttp is to answer with an error.

    Args:
        transport: See `ClientConnection`.
        protocol: See there.
        error: What the application has raised.
    """

    __slots__ = ("error",)

    def __init__(
        self, transport: asyncio.Transport, protocol: asyncio.Protocol, error: BaseException
    ) -> None:
        super().__init__(transport, protocol)
        self.error: BaseException | None = error


def raise_failure(transport: asyncio.Transport) -> None:
    """Raise what the application's code has raised for this handshake before aiohttp got it."""
    protocol = protocol_of(transport)
    if type(protocol) is FailedOpening and (error := protocol.error) is not None:
        protocol.error = None
        raise error
