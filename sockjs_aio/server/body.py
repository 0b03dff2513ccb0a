"""Reads request bodies as bytes, whatever their type, and limits their size after unpacking."""

import asyncio
import contextlib

import async_timeout
from aiohttp import HttpVersion11, web

from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.errors import BodyTimeoutError, PayloadTooLargeError
from sockjs_aio.server.aiohttp_internals import drop_rest, has_upgrade_data, invite_rest, received
from sockjs_aio.turns import Turn

IDLE_BODY_LIMIT = 65536
"""Maximum size of the body of a request that only receives: it is read and discarded."""

PART = 8192
"""Bytes of a body to read at a time.  A client may have sent them in one-byte pieces, each of which
costs time."""


async def invite_body(request: web.Request) -> None:
    """Answer ``Expect: 100-continue``.

    Raises:
        web.HTTPExpectationFailed: If the header has another value.  aiohttp's own refusal would
            repeat that value, and fail if it cannot be encoded.
    """
    if request.version < HttpVersion11:
        return
    if request.headers["Expect"].lower() != "100-continue":
        refusal = web.HTTPExpectationFailed(headers={"Cache-Control": "no-store"})
        end_where_unsafe(request, refusal)
        raise refusal
    with contextlib.suppress(ConnectionError):  # the client has left, as its body will tell
        await invite_rest(request)


async def read_body(request: web.Request, registry: SessionRegistry) -> bytes:
    """Read the whole body, regardless of its declared type and character set.

    Raises:
        PayloadTooLargeError: If it has more than `max_message_size` bytes after unpacking.
        BodyTimeoutError: If it did not arrive completely within `receive_timeout`, or before a
            shutdown.
        ConnectionError: If the client leaves before.
    """
    return await _read(request, registry, registry.settings.max_message_size)


async def discard_body(request: web.Request, registry: SessionRegistry) -> None:
    """Read and discard the body of a request that only receives.

    If it stayed unread, aiohttp would not notice that the client closed the connection.

    Raises:
        PayloadTooLargeError: If it has more than 64 KiB.
        BodyTimeoutError: As `read_body`.
    """
    if request.can_read_body:
        await _read(request, registry, IDLE_BODY_LIMIT)


async def _read(request: web.Request, registry: SessionRegistry, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise PayloadTooLargeError(f"more than {limit} bytes")
    if request.content.is_eof():  # usually the body arrived with the head: no timer needed
        return await _read_parts(request, limit)
    timeout = registry.settings.receive_timeout
    registry.closing.uploads.add(request.content)
    try:
        async with async_timeout.timeout(timeout):
            return await _read_parts(request, limit)
    except asyncio.TimeoutError:
        raise BodyTimeoutError(f"not within {timeout} seconds") from None
    finally:
        registry.closing.uploads.discard(request.content)


async def _read_parts(request: web.Request, limit: int) -> bytes:
    content = request.content
    if content.is_eof() and received(content) <= PART:
        body = content.read_nowait()
    else:
        body = await _joined_parts(request, limit)
    body = body or await request.read()  # a middleware may already have read it
    if len(body) > limit:
        raise PayloadTooLargeError(f"more than {limit} bytes")
    return body


async def _joined_parts(request: web.Request, limit: int) -> bytes:
    content = request.content
    parts: list[bytes] = []
    size = 0
    turn = Turn()
    while not content.at_eof():
        if request.transport is None and not content.is_eof():
            raise ConnectionResetError("the client has left")  # aiohttp may not have told the body
        part = await content.read(PART)
        if turn.is_over:
            await turn.next()
        size += len(part)
        if size > limit:
            raise PayloadTooLargeError(f"more than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def end_where_unsafe(request: web.Request, response: web.StreamResponse) -> None:
    """Close the connection after `response` if the request could affect the one that follows it.

    `aiohttp_internals.end_after_leftovers` explains how, and does the same for all URLs.  SockJS
    URLs repeat it because a router may be mounted in an application without that guard.
    """
    if "Transfer-Encoding" in request.headers:
        response.force_close()
    if "Content-Encoding" in request.headers and not request.content.is_eof():
        drop_rest(request)
        response.force_close()
    if response.status != 101 and has_upgrade_data(request):
        response.force_close()  # what follows are frames, which aiohttp would read as a request
