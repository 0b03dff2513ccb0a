"""The body of a request that is relayed while it is still arriving."""

import asyncio

from aiohttp import web


class Upload:
    """A body that is still arriving.  It is read no faster than the other process takes it.

    Args:
        request: The client's request.  aiohttp decompresses its body, so a few bytes from the
            client may become any number here.
        limit: Bytes beyond which the other process refuses the body, so more is not sent.
    """

    def __init__(self, request: web.Request, limit: int) -> None:
        self.error: Exception | None = None
        """Why the body could not be read to its end, if so."""
        self._request = request
        self._content = request.content
        self._limit = limit
        self._taken = 0
        self._has_begun = False

    def __aiter__(self) -> "Upload":
        return self

    async def __anext__(self) -> bytes:
        if self._taken > self._limit:
            await asyncio.get_running_loop().create_future()  # until the refusal arrives
        try:
            if not self._has_begun:
                self._has_begun = True
                part = self._content.read_nowait()
                self._taken += len(part)
                return part  # even if empty: aiohttp sends the head with it
            await asyncio.sleep(0)  # decompressed data may all be there without a wait
            if self._request.transport is None and not self._content.is_eof():
                raise ConnectionResetError("the client has left")  # as in `read_body`
            part = await self._content.readany()
        except Exception as error:
            self.error = error
            raise
        if not part:
            raise StopAsyncIteration
        self._taken += len(part)
        return part
