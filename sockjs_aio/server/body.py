"""Request bodies: read as bytes, whatever they claim to be, and bounded after unpacking."""

import asyncio

import async_timeout
from aiohttp import HttpVersion11, StreamReader, web

from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.errors import BodyTimeoutError, PayloadTooLargeError
from sockjs_aio.turns import Turn

IDLE_BODY_LIMIT = 65536
"""Bytes of a body that nobody wants, on a request that only receives."""

PART = 8192
"""Bytes of a body that are read at a time: they may have come one by one."""


async def invite_body(request: web.Request) -> None:
    """Answer ``Expect: 100-continue``.

    Raises:
        web.HTTPExpectationFailed: If something else is expected.  aiohttp's own refusal would
            repeat it, and fail where it cannot be encoded.
    """
    if request.version < HttpVersion11:
        return
    if request.headers["Expect"].lower() != "100-continue":
        refusal = web.HTTPExpectationFailed(headers={"Cache-Control": "no-store"})
        end_where_unsafe(request, refusal)
        raise refusal
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response has not begun


async def read_body(request: web.Request, registry: SessionRegistry) -> bytes:
    """Read the whole body, whatever its type and character set claim to be.

    Raises:
        PayloadTooLargeError: If it has more than `max_message_size` bytes, after unpacking.
        BodyTimeoutError: If its end has not come within `receive_timeout`, or before a shutdown.
    """
    return await _read(request, registry, registry.settings.max_message_size)


async def discard_body(request: web.Request, registry: SessionRegistry) -> None:
    """Read the body of a request that only receives.

    With unread input in front of it aiohttp would not see the end of the connection.

    Raises:
        PayloadTooLargeError: If it has more than 64 KiB.
        BodyTimeoutError: As `read_body`.
    """
    if request.can_read_body:
        await _read(request, registry, IDLE_BODY_LIMIT)


async def _read(request: web.Request, registry: SessionRegistry, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise PayloadTooLargeError(f"more than {limit} bytes")
    if request.content.is_eof():  # as a rule all of it has come with the head: no timer then
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
    if content.is_eof() and content.total_bytes <= PART:
        body = content.read_nowait()
    else:
        body = await _joined_parts(content, limit)
    body = body or await request.read()  # a middleware may have read it before
    if len(body) > limit:
        raise PayloadTooLargeError(f"more than {limit} bytes")
    return body


async def _joined_parts(content: StreamReader, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    turn = Turn()
    while not content.at_eof():
        part = await content.read(PART)
        if turn.is_over:
            await turn.next()
        size += len(part)
        if size > limit:
            raise PayloadTooLargeError(f"more than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def end_where_unsafe(request: web.Request, response: web.StreamResponse) -> None:
    """Have the connection end with `response` where aiohttp would do harm with what follows.

    `aiohttp_internals` says what harm, and does this for all URLs; here it is done once more for
    ours, since a router may be in an application whose own has no guard.
    """
    if "Transfer-Encoding" in request.headers:
        response.force_close()
    if "Content-Encoding" in request.headers and not request.content.is_eof():
        request.content.feed_eof()
        response.force_close()
