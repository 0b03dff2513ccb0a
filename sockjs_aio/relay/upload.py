"""The body of a request that is handed on while it is still coming."""

import aiohttp


class Upload:
    """A body that is still coming; it is read no faster than the other process takes it."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self.error: Exception | None = None
        """Why it could not be read to its end."""
        self._content = content
        self._has_begun = False

    def __aiter__(self) -> "Upload":
        return self

    async def __anext__(self) -> bytes:
        try:
            if not self._has_begun:
                self._has_begun = True
                return self._content.read_nowait()  # be it nothing: aiohttp sends the head with it
            part = await self._content.readany()
        except Exception as error:
            self.error = error
            raise
        if not part:
            raise StopAsyncIteration
        return part
