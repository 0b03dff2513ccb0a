"""The body of a request that is handed on while it is still coming."""

import asyncio

import aiohttp


class Upload:
    """A body that is still coming; it is read no faster than the other process takes it.

    Args:
        content: Where it comes from.  aiohttp unpacks what is compressed, so a few bytes of the
            client's may be any number here.
        limit: Bytes beyond which the other process refuses it: there is no use in more.
    """

    def __init__(self, content: aiohttp.StreamReader, limit: int) -> None:
        self.error: Exception | None = None
        """Why it could not be read to its end."""
        self._content = content
        self._limit = limit
        self._taken = 0
        self._has_begun = False

    def __aiter__(self) -> "Upload":
        return self

    async def __anext__(self) -> bytes:
        if self._taken > self._limit:
            await asyncio.get_running_loop().create_future()  # until the refusal is here
        try:
            if not self._has_begun:
                self._has_begun = True
                part = self._content.read_nowait()
                self._taken += len(part)
                return part  # even if it is empty: aiohttp sends the head with it
            await asyncio.sleep(0)  # what is compressed may be there at once, all of it
            part = await self._content.readany()
        except Exception as error:
            self.error = error
            raise
        if not part:
            raise StopAsyncIteration
        self._taken += len(part)
        return part
