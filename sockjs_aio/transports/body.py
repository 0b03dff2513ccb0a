"""Request bodies: read as bytes, whatever they claim to be, and bounded after unpacking."""

from aiohttp import web

from sockjs_aio.errors import PayloadTooLarge

IDLE_BODY_LIMIT = 65536
"""Bytes of a body that nobody wants, on a request that only receives."""


async def read_body(request: web.Request, limit: int) -> bytes:
    """Read the whole body, whatever its type and character set claim to be.

    Raises:
        PayloadTooLarge: If it has more than `limit` bytes, after unpacking.
    """
    if (request.content_length or 0) > limit:
        raise PayloadTooLarge(f"more than {limit} bytes")
    parts: list[bytes] = []
    size = 0
    while not request.content.at_eof():
        part = await request.content.readany()
        size += len(part)
        if size > limit:
            raise PayloadTooLarge(f"more than {limit} bytes")
        parts.append(part)
    body = b"".join(parts) or await request.read()  # a middleware may have read it before
    if len(body) > limit:
        raise PayloadTooLarge(f"more than {limit} bytes")
    return body


async def discard_body(request: web.Request) -> None:
    """Read the body of a request that only receives.

    With unread input in front of it aiohttp would not see the end of the connection.

    Raises:
        PayloadTooLarge: If it has more than 64 KiB.
    """
    if request.can_read_body:
        await read_body(request, IDLE_BODY_LIMIT)
