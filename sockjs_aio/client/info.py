"""What a service says of itself, and how far away it is."""

import asyncio
import json
from dataclasses import dataclass

import aiohttp
import async_timeout

from sockjs_aio.client.address import Address
from sockjs_aio.client.transport import TransportError, failures, refused
from sockjs_aio.errors import ConnectError, SettingsError
from sockjs_aio.protocol.server_frames import shown

_LIMIT = 65536
"""Bytes of an answer."""


@dataclass(frozen=True)
class Info:
    """The answer to ``/info``."""

    address: Address
    """Where to go on: the address that was asked, or the ``base_url`` of the answer."""
    has_websocket: bool
    seconds: float
    """How long the answer took."""


async def ask_info(session: aiohttp.ClientSession, address: Address, limit: float) -> Info:
    """Ask for ``/info``.

    Raises:
        ConnectError: If no SockJS server answers within `limit` seconds.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        with failures():
            async with async_timeout.timeout(limit):
                body = await _get(session, address)
    except TransportError as error:
        raise ConnectError(
            f"{address}/info: {error}", is_temporary=is_temporary(error.status)
        ) from error
    return _read(body, address, loop.time() - began)


async def _get(session: aiohttp.ClientSession, address: Address) -> bytes:
    url = address.below("/info")
    async with session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
        if response.status != 200:
            raise refused("info request", response.status)
        body = b""
        while len(body) <= _LIMIT and (data := await response.content.readany()):
            body += data
        return body


def _read(body: bytes, address: Address, seconds: float) -> Info:
    try:
        answer = json.loads(body) if len(body) <= _LIMIT else None
    except (ValueError, RecursionError):
        answer = None
    base_url = answer.get("base_url") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(base_url, (str, type(None))):
        raise ConnectError(
            f"{address}/info: the answer is not that of a SockJS server: {shown(body)}",
            is_temporary=False,
        )
    target = _moved(address, base_url) if base_url else address
    return Info(target, bool(answer.get("websocket", True)), seconds)


def _moved(address: Address, base_url: str) -> Address:
    try:
        target = Address(base_url)
    except SettingsError as error:
        message = f"{address}/info: its base_url cannot be used: {error}"
        raise ConnectError(message, is_temporary=False) from error
    if address.is_secure and not target.is_secure:
        message = f"{address}/info: its base_url {target} would give up TLS"
        raise ConnectError(message, is_temporary=False)
    return target


def is_temporary(status: int | None) -> bool:
    """Tell whether a later attempt may succeed after an answer with this HTTP status."""
    return status is None or status >= 500 or status in (408, 425, 429)
