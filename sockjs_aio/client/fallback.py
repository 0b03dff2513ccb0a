"""Chooses a transport as sockjs-client does: asks for ``/info``, then tries one after another."""

import asyncio
import logging

import async_timeout
from aiohttp import ClientSession

from sockjs_aio.client.address import Address, session_path
from sockjs_aio.client.http_transport import HttpTransport
from sockjs_aio.client.info import ask_info, is_temporary
from sockjs_aio.client.options import ClientOptions
from sockjs_aio.client.transport import LOST, Transport, TransportError, failures
from sockjs_aio.client.websocket import RawWebSocket, WebSocket
from sockjs_aio.errors import ConnectError, ConnectionClosedError

logger: logging.Logger = logging.getLogger("sockjs_aio")

_ROUND_TRIPS = 2
"""How many times the time-out for one round trip a transport gets, as in sockjs-client."""


async def open_transport(
    session: ClientSession, address: Address, names: list[str], options: ClientOptions
) -> Transport:
    """Open the first of the transports `names` that works.

    Raises:
        ConnectError: If none does.
        ConnectionClosedError: If the server closes the session instead of opening it.
    """
    patience = options.transport_timeout
    if names != ["rawwebsocket"]:  # there, /info would say nothing that helps
        info = await ask_info(session, address, options.open_timeout)
        address = info.address
        patience = max(patience, _ROUND_TRIPS * _retransmission_timeout(info.seconds))
        if not info.has_websocket and len(names) > 1:
            names = [name for name in names if not name.endswith("websocket")] or names
    failed: dict[str, TransportError] = {}
    for name in names:
        is_last = name == names[-1]
        limit = max(patience, options.open_timeout) if is_last else patience
        transport = _make(name, session, address, options)
        try:
            await _open(transport, limit)
        except TransportError as error:
            logger.debug("%s: %s: %s", address, name, error)
            failed[name] = error
        else:
            return transport
    raise ConnectError(
        f"{address}: " + "; ".join(f"{name}: {error}" for name, error in failed.items()),
        is_temporary=any(is_temporary(error.status) for error in failed.values()),
    )


def _retransmission_timeout(round_trip: float) -> float:
    """Return how long sockjs-client waits for one round trip, given how long ``/info`` took."""
    return 4 * round_trip if round_trip > 0.1 else 0.3 + round_trip


def _make(name: str, session: ClientSession, address: Address, options: ClientOptions) -> Transport:
    if name == "rawwebsocket":
        return RawWebSocket(session, address.below("/websocket"), options)
    path = session_path()
    if name == "websocket":
        return WebSocket(session, address.below(f"{path}/websocket"), options)
    return HttpTransport(name, session, address, path, options)


async def _open(transport: Transport, limit: float) -> None:
    """Open `transport`; if that fails, release all of it."""
    is_open = False
    try:
        with failures():
            async with async_timeout.timeout(limit):
                frame = await transport.open()
        if frame.kind == "c":
            raise ConnectionClosedError(frame.code, frame.reason)
        if frame.kind != "o":
            raise TransportError("the server's first frame is not the open frame", 1002)
        is_open = True
    except TransportError as error:
        if isinstance(error.__cause__, asyncio.TimeoutError):
            raise TransportError(f"no open frame within {limit:.3g} s") from error
        raise
    finally:
        if not is_open:
            await transport.abort(LOST)
